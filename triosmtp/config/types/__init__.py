"""Types of options: the text of a value to its Python value, and back."""
