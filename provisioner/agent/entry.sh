# The first process of the job: runs the start script, then, when told to go, the command, and ends
# with the command's exit code. It talks with the agent through the pipes beside it: "said" takes
# what has ended and how, "go" gives the word, "setup" and "output" take the two streams.
#
# The job's variables are read in the subshells alone, last of all, and what is still needed then
# stands in the positional parameters: the job may have an IFS or a "here" of its own.
here=${0%/*}
stopped=
trap 'stopped=1' TERM

code=0
if [ -s "$here/start_script" ]; then
    read -r first <"$here/start_script"
    case $first in
        '#!'*) interpreter=${first#??} ;;
        *) interpreter=sh ;;
    esac
    # Not executed by itself, for the folder may be mounted noexec; the words of a #! line are split.
    (
        exec >"$here/setup" 2>&1 </dev/null || exit
        set -- $interpreter "$here/start_script"
        . "$here/environment"
        exec "$@"
    )
    code=$?
fi
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
