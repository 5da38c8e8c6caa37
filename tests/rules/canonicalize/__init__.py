import pytest

pytest.register_assert_rewrite(f"{__name__}.graphs")  # so that a failing comparison shows its values
