"""What every section of the configuration is, and how a mapping chooses its kind by one of its own keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from gateway.config.values import refuse


class Section(BaseModel):
    """A mapping in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


S = TypeVar("S", bound=Section)


def chosen_by(
    key: str, models: Mapping[str, type[S]], default: str | None = None
) -> Callable[[object, ValidationInfo], S]:
    """Return a validator that takes the model which the value of `key` names."""

    def choose(value: object, info: ValidationInfo) -> S:
        if not isinstance(value, Mapping):
            refuse(f"a mapping with `{key}` and the keys of that {key}")
        kind = value.get(key, default)
        model = models.get(kind) if isinstance(kind, str) else None
        if model is None:
            context = {"allowed": f"one of {', '.join(models)}", "found": None}
            error = PydanticCustomError("mistake", "{allowed}", context)
            raise ValidationError.from_exception_data(key, [InitErrorDetails(type=error, loc=(key,), input=kind)])
        return model.model_validate(value, context=info.context)

    return choose
