"""What can be set from outside: environment variables with the prefix NEOCOG_."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from model.images import MAX_PIXELS


class SettingsError(Exception):
    """An environment variable holds what the service cannot use. Printed as one line."""


class Settings(BaseSettings):
    """Read once, when the service starts. README's table is made from the descriptions below."""

    model_config = SettingsConfigDict(env_prefix="NEOCOG_", frozen=True)

    bundle: Path = Field(Path("out/champion"), description="the folder of the bundle that is served")
    host: str = Field("127.0.0.1", description="the address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    max_body_bytes: int = Field(10_000_000, ge=1, description="larger request bodies are refused (413)")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="images of more pixels are refused before decoding (413)")

    @classmethod
    def from_environment(cls) -> "Settings":
        """Raises `SettingsError` naming the variable, its value and what is allowed."""
        try:
            return cls()  # type: ignore[call-arg]  # every field has a default, which mypy can't see in Field()
        except ValidationError as error:
            wrong = error.errors()[0]
            allowed = wrong["msg"].removeprefix("Input should be ")
            name = f"NEOCOG_{wrong['loc'][0]}".upper()
            raise SettingsError(f"{name} is {wrong['input']!r}, allowed is: {allowed}") from None
