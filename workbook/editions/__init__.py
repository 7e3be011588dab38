"""The editions of a lesson, all made from the same source: the learner's, the instructor's and nbgrader's."""
