# Run the commands of one slot, one after the other; $1 is the slot's folder. The agent writes lines `run INDEX GENERATION
# TOKEN`, or `end`, to the pipe "go". This shell appends `begun INDEX GENERATION` and `ended INDEX GENERATION CODE` to the
# file "said", and writes the slot's number to the pipe "bell".
#
# The job's variables may include IFS, "slot" or "index". So only the subshell reads them, after everything else, and the
# words that are needed afterwards are in the positional parameters.
slot=$1
here=${1%/slots/*}
trap : TERM
# These ends keep the pipes open while no agent process runs, so that no writer gets SIGPIPE and no byte is lost.
exec 3<>"$slot/go" 4<>"$here/bell" 5<>"$slot/output"
while read -r word index generation token <&3; do
    [ "$word" = run ] || exit 0
    # A command never executes twice, but its line may be repeated: by an agent process that takes over, and after this
    # slot's shell was killed. The agent writes "given" before it empties "said", so read "said" first.
    begun=
    while read -r said; do
        [ "$said" = "begun $index $generation" ] && begun=1
    done <"$slot/said"
    read -r given <"$slot/given"
    [ -n "$begun" ] || [ "$given" != "$index $generation" ] && continue
    until echo "begun $index $generation" >>"$slot/said"; do sleep 1; done
    (
        exec >"$slot/output" 2>&1 </dev/null 3<&- 4<&- 5<&- || exit
        # `read` fails if the command is one line, which no line break ends: then `cat` is not needed.
        IFS= read -r first <"$slot/command" && more=1 || more=
        case $first in
            '#!'*) set -- ${first#??} "$slot/command" ;;
            *) [ -n "$more" ] && first=$(cat "$slot/command"); set -- sh -c "$first" ;;
        esac
        set -- "$here/environment" "$slot/variables" "$index" "$generation" "$token" "$@"
        . "$1"
        . "$2"
        export PROVISION_COMMAND_INDEX="$3" PROVISION_COMMAND_GENERATION="$4" PROVISION_TRY="$5"
        shift 5
        exec "$@"
    )
    code=$?
    until echo "ended $index $generation $code" >>"$slot/said"; do sleep 1; done
    echo "${slot##*/}" >&4
done
# SIGTERM interrupted the read; "entry" starts this shell again, unless the job is over.
exit 1
