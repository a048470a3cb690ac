"""The `provision` command: it composes the other commands, and turns every error into lines and an exit code."""

import errno
import io
import os
import sys
import traceback
from typing import Annotated, Any

import typer

from provisioner.core.errors import ProvisionError
from provisioner.faces.cli import exits
from provisioner.faces.cli.catalog import Commands
from provisioner.faces.cli.terminal import streams

#: errno values of a file that cannot be written or read: they are reported without a traceback (errno(3)).
DISK = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    )
)

#: `\b` keeps the lines as they are.
EPILOG = "\b\nThe exit code is the job's own where it succeeded or failed. Elsewhere:\n" + "\n".join(
    f"  {code:<3}  {meaning}" for code, meaning in exits.MEANING.items()
)

app = typer.Typer(
    name="provision",
    cls=Commands,
    help="Serverless GPU jobs on EC2: every start is a fresh machine, and every machine is given back.",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    settings: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="The settings.  [default: $PROVISION_SETTINGS, ./provision.toml; none where $PROVISION_URL is set]",
        ),
    ] = "",
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    context.obj |= {"settings": settings or None, "debug": debug}
    if version:
        from importlib.metadata import version as installed

        print(f"provision {installed('provisioner')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    _stand()
    code = run(sys.argv[1:])
    # If a stream cannot be flushed, Python would exit with 120. Discard the rest, so that the exit code stays.
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    sys.exit(code)


def _stand() -> None:
    """Open /dev/null for each standard stream that is closed (`>&-`); else another file would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened != number:
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    # `?` replaces a character that the encoding of the terminal or file does not have.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; every error has been printed when this returns."""
    told: dict[str, Any] = {}
    try:
        " ".join(arguments).encode()
    except UnicodeEncodeError:
        streams.complain("an argument is not UTF-8 text")
        return exits.INVALID
    try:
        code = app(args=arguments, standalone_mode=False, obj=told) or 0
        with streams.writing():
            sys.stdout.flush()
        return code
    except streams.OutputLost as error:
        streams.discard_output()
        streams.complain(f"standard output cannot be written: {error}")
        return exits.RETRY
    except typer.Exit as exit:
        return exit.exit_code
    except (typer.Abort, KeyboardInterrupt):
        streams.say("interrupted; `provision runs` lists what was started")
        return exits.DETACHED
    except (BrokenPipeError, SystemExit):
        # Typer exits when the reader of standard output is gone. Else the interpreter would fail to flush it at exit.
        streams.discard_output()
        return exits.UNREAD
    except typer.TyperException as error:
        context, text = getattr(error, "ctx", None), error.format_message().rstrip(".").replace("Value error, ", "")
        where = f" (see `{context.command_path} --help`)" if context else ""
        if text.endswith(("--debug", "--settings")):
            where = " here; it goes before the command"
        streams.complain(f"{text}{where}")
        return exits.INVALID
    except Exception as error:  # noqa: BLE001 - whatever it is, its reader gets a line, not a traceback
        if told.get("debug"):
            for line in traceback.format_exc().splitlines():
                streams.say(line)
        if isinstance(error, ProvisionError):
            streams.complain(str(error))
        elif isinstance(error, OSError) and error.errno in DISK:
            # An error without a file name comes from standard output.
            streams.complain(f"{error.filename or 'standard output'}: {error.strerror}")
            return exits.RETRY
        else:
            streams.complain(f"a fault of ours: {error!r} (`provision --debug …` shows where)")
        return exits.of_error(error)


if __name__ == "__main__":
    main()
