"""The editions of a lesson, all made from its one source: the learner's, the instructor's, and nbgrader's."""
