"""Proofs that a picture is the best one: mixed-integer programs, branch and bound, HiGHS."""
