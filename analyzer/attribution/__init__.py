"""Which pixels speak for a value: gradients under several backpropagation rules, and tests of what they show."""
