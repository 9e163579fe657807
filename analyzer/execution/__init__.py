"""What runs, where and in which order: the plan, its tasks, their executors."""
