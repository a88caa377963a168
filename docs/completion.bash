# bash completion for weft-perf, weft-perf-mpi, weft-plan, weft-topo and weft-net-test. Flags come from the program's own --help, so they are always
# the right ones; only the values of flags are listed here.

_weft_words() {
    local program=$1 flag=$2
    case $flag in
    -d | --datatype) echo "i8 u8 i16 u16 i32 u32 i64 u64 f16 bf16 f32 f64 f8e4m3 f8e5m2 bool all" ;;
    -o | --op) echo "sum prod min max avg band bor bxor all" ;;
    --transport) echo "auto shm tcp verbs plugin ucx" ;;
    --algorithm) echo "auto ring tree halving_doubling recursive_doubling knomial bruck pairwise linear flat direct hierarchical" ;;
    --format) echo "text json svg dot" ;;
    -c | --check) echo "0 1" ;;
    --ranks) echo "1 2 4 8 16" ;;
    -b | -e | -i | --minbytes | --maxbytes | --stepbytes | --slice) echo "8 1K 64K 1M 16M 64M 1G" ;;
    -*) ;;
    esac
}

_weft() {
    local program=$1 current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words
    COMPREPLY=()
    case $previous in
    -J | --output_file | --tune | --output | -f | --file | --diff | --compare)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    esac
    if [[ ($program = *weft-topo || $program = *weft-net-test) && $current != -* ]]; then # machine files, plugins
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
    fi
    words=$(_weft_words "$program" "$previous")
    if [ -z "$words" ]; then
        if [[ $current = -* ]]; then
            words=$("$program" --help 2>/dev/null | grep -E '^ {1,8}-' | sed 's/^ *//; s/  .*//' |
                grep -oE -- '(^|[ ,])--?[a-zA-Z][a-z_-]*' | tr -d ' ,')
        else
            words="all_reduce all_gather reduce_scatter broadcast reduce gather scatter all_to_all barrier"
            [[ $program = *weft-perf* ]] && words+=" sendrecv"
        fi
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _weft weft-perf weft-perf-mpi weft-plan weft-topo weft-net-test
