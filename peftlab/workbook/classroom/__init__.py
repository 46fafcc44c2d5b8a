"""A class from one source, the lessons: copies for students and instructors, slides, tests that grade."""

from .build import build_class

__all__ = ["build_class"]
