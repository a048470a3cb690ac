# The first process of the job: runs the parts of its setup, then, when told to go, the command, and
# waits for the agent to end it all. It talks with the agent through what lies beside it: the file "said"
# takes what has ended and how; of the pipes, "go" gives the word, "setup" and "output" take the streams.
#
# The job's variables are read in the subshells alone, last of all, and what is still needed then
# stands in the positional parameters: the job may have an IFS or a "here" of its own.
here=${0%/*}
# It is there once the cloud recommends to move elsewhere.
export PROVISION_REBALANCE_FILE="$here/rebalance"
trap : TERM

# An agent may die, and another take over: while nobody reads, these reading ends keep the writers alive
# and what they wrote. A pipe without a writer cannot be opened for reading alone, hence the third end.
exec 3<>"$here/setup" 4<"$here/setup" 3>&-
exec 3<>"$here/output" 5<"$here/output" 3>&-

# The agent's word; the end of one agent is not the end of the waiting.
hear() {
    until read -r go <"$here/go"; do :; done
}

# One subshell holds the stream for all parts, so that its end is the end of the setup.
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
        # Not executed by itself, for the folder may be mounted noexec; the words of a #! line are split.
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
# Redirected inside of the subshell: what this shell says of its child is none of the job's output.
(
    exec 4<&- 5<&-
    exec >"$here/output" 2>&1 </dev/null || exit
    read -r first <"$here/command"
    case $first in
        '#!'*) set -- ${first#??} "$here/command" ;;
        *) set -- sh -c "$(cat "$here/command")" ;;
    esac
    # What a command makes to say that it is done, though it was told to stop; a new folder for each attempt.
    export PROVISION_DONE_FILE="$here/done/file"
    . "$here/environment"
    exec "$@"
)
code=$?
echo "command $code" >>"$here/said"

# What the command left behind may still be saving its work, and the streams may be read by nobody yet:
# the agent ends it all.
hear
exit "$code"
