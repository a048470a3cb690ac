"""The parts of a recipe that are set up before a job's command: secrets, files, packages, repositories."""

import posixpath
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from provisioner.core.protocol.words import Attachment
from provisioner.core.recipe import fields, git, kinds, packages
from provisioner.core.recipe.kinds import Kind, Part, later, matching, or_nothing

_INSTALL_HERE = "install them in start_script"


def _with_old_name(schema: dict[str, Any]) -> None:
    schema["properties"]["type"] = schema["properties"]["attachment_type"]
    schema["required"].remove("attachment_type")
    schema["oneOf"] = [{"required": ["attachment_type"]}, {"required": ["type"]}]


class Secret(Part):
    """A secret that the machine reads with its own role, and that the job gets as a variable or a file."""

    attachment_type: Literal["environment_variable", "file"]
    #: The variable's name, or the file's path; a relative path is below HOME.
    location: Annotated[str, Field(min_length=1)]
    name: fields.SecretName
    #: Only the job's owner is allowed, because the job's machines have only this owner's rights.
    owner: fields.OwnerName | None = None
    description: fields.Text = ""

    #: `attachment_type` was called `type` before 2026.02.
    model_config = ConfigDict(json_schema_extra=_with_old_name)

    @model_validator(mode="before")
    @classmethod
    def _old_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and "type" in value:
            if "attachment_type" in value:
                raise ValueError("type is the old name of attachment_type; leave type out")
            return {"attachment_type" if name == "type" else name: each for name, each in value.items()}
        return value

    @field_validator("location")
    @classmethod
    def _located(cls, location: str, info: ValidationInfo) -> str:
        variable = info.data.get("attachment_type") == Attachment.VARIABLE.value
        found = fields.secret_location(location, variable=variable)
        return found if kinds.is_stored(info) else fields.refuse_shell_words(found)

    @property
    def attachment(self) -> Attachment:
        return Attachment(self.attachment_type)


def _script(content: str) -> str:
    # Only scripts are changed: in other files the line ends may be part of the content.
    return fields.unix_lines(content) if content.startswith("#!") else content


class ConfigFile(Part):
    """A file below HOME."""

    content: Annotated[fields.Text, AfterValidator(_script)]
    mode: Annotated[
        str,
        AfterValidator(lambda text: text.zfill(4)),
        matching("0?[0-7]{3}", "write a mode as 0644: octal digits for user, group and others"),
    ] = "0644"


#: A list, or text with spaces between the packages.
_WORDS = Kind(packages.words, also=({"type": "string"},), first=True)


class Pip(Part):
    """Python packages, as requirements or as the content of a requirements.txt."""

    install: Annotated[tuple[Annotated[str, AfterValidator(packages.pip)], ...], _WORDS, or_nothing([])] = ()
    requirements_txt: Annotated[fields.Text, AfterValidator(packages.requirements), or_nothing("")] = ""


class Apt(Part):
    """Debian packages."""

    install: Annotated[tuple[Annotated[str, AfterValidator(packages.apt)], ...], _WORDS, or_nothing([])] = ()


def _bare(value: Any) -> Any:
    return {"install": value} if isinstance(value, str | list) else value


_BARE = Kind(_bare, also=({"type": "string"}, {"type": "array", "items": {"type": "string"}}), first=True)


_NOTHING = {"anyOf": [{"enum": [None, []]}, {"type": "string", "pattern": r"^\s*$"}]}
_EMPTY_GROUP: dict[str, Any] = {
    "type": "object",
    "properties": {"install": _NOTHING, "environment_yml": _NOTHING, "use_mamba": {}},
    "additionalProperties": False,
}


def _installs_nothing(value: Any) -> bool:
    """Return whether a group of packages is empty. Saturn's own recipes have such groups, with `use_mamba` in them."""
    if not isinstance(value, dict) or not value.keys() <= _EMPTY_GROUP["properties"].keys():
        return False
    wanted = [value.get("install"), value.get("environment_yml")]
    return all(each in (None, []) or (isinstance(each, str) and not each.strip()) for each in wanted)


def _not_installed(what: str) -> Kind:
    return later(what, "", {}, [], asks_nothing=_installs_nothing, also=(_EMPTY_GROUP,))


class Packages(Part):
    """Packages that are installed before the start script."""

    pip: Annotated[Pip, _BARE, or_nothing({})] = Pip()
    apt: Annotated[Apt, _BARE, or_nothing({})] = Apt()

    conda: Annotated[None, _not_installed(f"conda environments; bake them into the image, or {_INSTALL_HERE}")] = None
    cran: Annotated[None, _not_installed(f"R packages; {_INSTALL_HERE}")] = None
    remotes: Annotated[None, _not_installed(f"R packages; {_INSTALL_HERE}")] = None
    bioconductor: Annotated[None, _not_installed(f"R packages; {_INSTALL_HERE}")] = None


def _written_reference(value: Any) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        right = "write a branch, a tag or a commit, or leave the line out for the default branch"
        raise ValueError(f"the reference is empty, perhaps because a template variable is unset; {right}")
    return value


class GitRepository(Part):
    """A repository to clone, and the reference to check out."""

    url: git.RepositoryUrl
    #: Absolute, or relative to the working directory; if unset, see `Spec.checkouts`.
    path: Annotated[fields.Path, fields.no_shell_words] | None = None
    #: If unset: the remote's default branch.
    reference: Annotated[git.Reference | None, kinds.rule(_written_reference, first=True)] = None
    #: If unset: a commit if the reference is a complete commit id, else a branch.
    reference_type: Annotated[Literal["branch", "tag", "commit"] | None, Field(validate_default=True)] = None
    #: If unset: all commits of the reference, but older commits without their files if the server supports that;
    #: `full`: all files, branches and tags.
    depth: git.Depth | None = None
    #: Whether to fetch files from git LFS; otherwise they stay pointers.
    lfs: fields.Flag = True
    #: Both values have the same effect: each run clones on a fresh machine.
    on_restart: Literal["preserve changes", "reclone"] = "reclone"
    #: Whether to clone over HTTPS without a credential; a clone over SSH always uses one.
    public: fields.Flag = False

    @model_serializer(mode="wrap")
    def _dumped(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omit an unset reference: `apply` refuses an empty reference, and must accept a dump."""
        dumped: dict[str, Any] = handler(self)
        return {name: value for name, value in dumped.items() if name != "reference" or value is not None}

    def credential(self, known: str) -> str:
        """Return the credential `known` for SSH, and for HTTPS unless the repository is public; otherwise ""."""
        wanted = self.is_ssh or (self.url.startswith("https://") and not self.public)
        return known if wanted else ""

    @property
    def is_ssh(self) -> bool:
        return git.is_ssh(self.url)

    @field_validator("reference_type")
    @classmethod
    def _named(cls, kind: str | None, info: ValidationInfo) -> str | None:
        # An invalid reference is missing here and has its own error: use a text that causes no second error.
        reference = info.data.get("reference", "0000")
        if reference is None:
            if kind not in (None, "branch"):
                raise ValueError(f"reference_type is {kind}, so reference must name the {kind}")
            return kind
        if kind == "commit" and not re.fullmatch("[0-9a-fA-F]{4,64}", reference):
            raise ValueError(f"{reference!r} is not a commit id: expected 4 to 64 hexadecimal digits")
        if kind in (None, "branch") and re.fullmatch("[0-9a-fA-F]{40}|[0-9a-fA-F]{64}", reference):
            # git does not create branches with such a name.
            return "commit"
        if kind is None and re.fullmatch("[0-9a-fA-F]{7,39}", reference) and not kinds.is_stored(info):
            raise ValueError(f"{reference!r} may be a commit or a branch; set reference_type to the one that it is")
        return kind


class Git(Part):
    """The credential for private repositories."""

    #: An SSH key or a token; if unset, the credential of the settings.
    credential: fields.SecretName | None = None


class Registry(Part):
    """The credential for private images."""

    #: `user:password` or {"username", "password"}; if unset, the credential of the settings.
    credential: fields.SecretName | None = None


def _told_apart(files: Any) -> Any:
    # With two spellings of one path, the second file would replace the first without an error.
    seen: dict[str, str] = {}
    for path in files if isinstance(files, dict) else ():
        if (other := seen.setdefault(posixpath.normpath(path), path)) != path:
            raise ValueError(f"{other!r} and {path!r} are one file; leave one of them out")
    return files


#: Files, by their path relative to HOME.
ConfigFiles = Annotated[Mapping[fields.FilePath, ConfigFile], or_nothing({}), Kind(_told_apart, first=True)]
