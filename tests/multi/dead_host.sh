#!/bin/bash
# mostly waits
# A host that falls silent (its link goes down, nothing is closed) is noticed by the control plane of idle ranks on both sides,
# after about the time that was set. Two hosts are network namespaces with a link between them.
set -u

[ "$(id -u)" = 0 ] || { echo "needs root, for network namespaces"; exit 77; }
one=weft-test-$$-1 two=weft-test-$$-2 place=$(mktemp -d)
end_all() {
    for p in $(jobs -p); do kill -KILL "$p" 2>/dev/null; done
    ip netns del $one 2>/dev/null
    ip netns del $two 2>/dev/null
    rm -rf "$place"
}
trap end_all EXIT
if ! { ip netns add $one && ip netns add $two &&
    ip -n $one link add weft0 type veth peer name weft0 netns $two; } 2>"$place/log"; then
    echo "network namespaces are not allowed here: $(tail -n 1 "$place/log")"
    exit 77
fi
ip -n $one addr add 10.213.7.1/24 dev weft0
ip -n $two addr add 10.213.7.2/24 dev weft0
for host in $one $two; do
    ip -n $host link set lo up
    ip -n $host link set weft0 up
done

program=$place/launched
flags=
case $BUILD in
*asan) flags=-fsanitize=address,undefined ;;
*tsan) flags=-fsanitize=thread ;;
esac
# shellcheck disable=SC2086
${CC:-gcc} -std=gnu11 -g $flags -Iinclude -Isrc tests/multi/launched.c "$BUILD/lib/libweft.a" -o "$program" -pthread -ldl -lm ||
    exit 1

export WORLD_SIZE=6 WEFT_RENDEZVOUS=tcp://10.213.7.1:7000
for rank in 0 1 2 3 4 5; do
    host=$one
    [ $rank -ge 3 ] && host=$two
    RANK=$rank timeout 60 ip netns exec $host "$program" await-death >"$place/rank$rank" 2>&1 &
done
for rank in 0 1 2 3 4 5; do
    until grep -q '^ready' "$place/rank$rank"; do
        [ -n "$(jobs -pr)" ] || { cat "$place"/rank*; echo "the ranks did not meet"; exit 1; }
        sleep 0.05
    done
done
ip -n $two link set weft0 down
for process in $(jobs -p); do
    wait "$process" || { cat "$place"/rank*; exit 1; }
done
for rank in 0 1 2; do
    grep -Eq '^rank [345] died' "$place/rank$rank" || { cat "$place"/rank*; echo "rank $rank names another"; exit 1; }
done
for rank in 3 4 5; do
    grep -Eq '^rank [012] died' "$place/rank$rank" || { cat "$place"/rank*; echo "rank $rank names another"; exit 1; }
done
tail -qn 1 "$place"/rank*
