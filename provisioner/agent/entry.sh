# The first process of the job: runs the parts of its setup, then, when told to go, the command, and
# ends with the command's exit code. It talks with the agent through the pipes beside it: "said" takes
# what has ended and how, "go" gives the word, "setup" and "output" take the two streams.
#
# The job's variables are read in the subshells alone, last of all, and what is still needed then
# stands in the positional parameters: the job may have an IFS or a "here" of its own.
here=${0%/*}
# It is there once the cloud recommends to move elsewhere.
export PROVISION_REBALANCE_FILE="$here/rebalance"
stopped=
trap 'stopped=1' TERM

# One subshell holds the stream for all parts, so that its end is the end of the setup.
(
    trap 'stopped=1' TERM
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
        [ "$code" = 0 ] || echo "$part $code" >"$here/said"
        [ "$code" = 0 ] && [ -z "$stopped" ] || exit "$code"
    done
)
code=$?
echo "setup $code" >"$here/said"

read -r go <"$here/go"
[ "$go" = go ] || exit "$code"
# Redirected inside of the subshell: what this shell says of its child is none of the job's output.
(
    exec >"$here/output" 2>&1 </dev/null || exit
    set -- "$(cat "$here/command")"
    . "$here/environment"
    exec sh -c "$1"
)
code=$?
echo "command $code" >"$here/said"

# What the command left behind may still be saving its work: the agent ends it all when the last one
# lets go of the output, or when the grace is over.
[ -z "$stopped" ] || read -r go <"$here/go"
exit "$code"
