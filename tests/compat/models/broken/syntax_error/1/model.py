"""Does not compile."""

return  # noqa: F706
