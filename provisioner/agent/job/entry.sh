# The first process of the job. It runs the parts of the setup and, when the agent writes "go", the command. Then it
# waits until the agent ends the job. It communicates with the agent through the files beside this script: it reports
# exit codes in the file "said", reads the agent's decision from the pipe "go", and connects the job's output to the
# pipes "setup" and "output".
#
# The job's variables may include IFS or "here". So only the subshells read them, after everything else, and the words
# that are needed afterwards are in the positional parameters.
here=${0%/*}
# The agent writes this file when the cloud recommends to move the job to another machine.
export PROVISION_REBALANCE_FILE="$here/rebalance"
trap : TERM

# The agent process may die, and another agent process take over. Until then these read ends keep the pipes open, so
# that no writer gets SIGPIPE and no byte is lost. Descriptor 3 is needed because opening a pipe for reading only blocks
# until the pipe has a writer.
exec 3<>"$here/setup" 4<"$here/setup" 3>&-
exec 3<>"$here/output" 5<"$here/output" 3>&-

# Read the agent's decision; if an agent process dies before it writes one, wait for the next agent process.
hear() {
    until read -r go <"$here/go"; do :; done
}

# One subshell keeps the pipe open for all parts, so that the stream ends when the setup ends.
(
    stopped=
    trap 'stopped=1' TERM
    exec 4<&- 5<&-
    exec >"$here/setup" 2>&1 </dev/null || exit
    for part in files apt pip start_script; do
        [ -s "$here/$part" ] || continue
        read -r first <"$here/$part"
        case $first in
            '#!'*) interpreter=${first#??} ;;
            *) interpreter=sh ;;
        esac
        # The script is not executed directly, as the folder may be mounted noexec; the words of a #! line are split.
        (
            set -- $interpreter "$here/$part"
            . "$here/environment"
            exec "$@"
        )
        code=$?
        [ "$code" = 0 ] || echo "$part $code" >>"$here/said"
        [ "$code" = 0 ] && [ -z "$stopped" ] || exit "$code"
    done
)
code=$?
echo "setup $code" >>"$here/said"

hear
[ "$go" = go ] || exit "$code"
echo "begun 0" >>"$here/said"
if [ -d "$here/slots" ]; then
    # The job is a list of commands. The slots' shells are parts of one pipeline, because a process with `&` would ignore
    # SIGINT (POSIX), and so would the commands. A command may kill its slot's shell, which is then started again.
    slots=:
    for slot in "$here"/slots/*; do
        slots="$slots | keep ${slot##*/}"
    done
    keep() {
        exec 4<&- 5<&-
        until sh "$here/slot" "$here/slots/$1" </dev/null >/dev/null 2>&1; do
            echo died >>"$here/slots/$1/said"
            sleep 1
        done
    }
    eval "$slots"
    echo "command 0" >>"$here/said"
    hear
    exit 0
fi
# Redirect inside the subshell: this shell's own messages about its child are not part of the job's output.
(
    exec 4<&- 5<&-
    exec >"$here/output" 2>&1 </dev/null || exit
    read -r first <"$here/command"
    case $first in
        '#!'*) set -- ${first#??} "$here/command" ;;
        *) set -- sh -c "$(cat "$here/command")" ;;
    esac
    # A command makes this file to report that it is done although it got SIGTERM; each attempt has a new folder.
    export PROVISION_DONE_FILE="$here/done/file"
    . "$here/launcher"
    . "$here/environment"
    exec "$@"
)
code=$?
echo "command $code" >>"$here/said"

# Processes that the command left may still save their work, and no agent process may have read the streams yet, so
# wait until the agent ends the job.
hear
exit "$code"
