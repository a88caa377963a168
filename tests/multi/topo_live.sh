#!/bin/bash
# weft-topo on a live machine: this one, and one made of files (a tree like /sys and /proc) with a library that has NVML's
# interface: what no machine here has (InfiniBand, SR-IOV, NVLink, bonds) is read from there. WEFT_TOPO_FILE and
# WEFT_TOPO_DUMP_FILE.
set -eu

topo=$BUILD/bin/weft-topo
out=$BUILD/log/topo_live
fake=$out/machine
fail() {
    echo "$*"
    exit 1
}
[ -x "$topo" ] || fail "$topo is not built"
rm -rf "$out"
mkdir -p "$fake/proc/self" "$fake/proc/sys/net/core" "$fake/proc/sys/kernel" "$fake/sys/bus/pci/devices" "$fake/sys/class/net" \
    "$fake/sys/class/infiniband"

# FILE VALUE
put() {
    mkdir -p "$(dirname "$fake/$1")"
    echo "$2" >"$fake/$1"
}
# PATH-UNDER-DEVICES CLASS VENDOR DEVICE NUMA SPEED WIDTH
pci() {
    local at=sys/devices/$1
    put "$at/class" "$2"
    put "$at/vendor" "$3"
    put "$at/device" "$4"
    put "$at/numa_node" "$5"
    put "$at/current_link_speed" "$6"
    put "$at/current_link_width" "$7"
    put "$at/max_link_width" 16
    ln -s "../../../devices/$1" "$fake/sys/bus/pci/devices/$(basename "$1")"
}

echo fakehost >"$fake/proc/sys/kernel/hostname"
put proc/cpuinfo "$(printf '%s\t: %s\n' processor 0 vendor_id AuthenticAMD \
    'cpu family' 25 $'model\t' 1 'model name' 'Made-up CPU')"
put proc/self/status "$(printf 'Name:\tx\nCpus_allowed_list:\t0-3\nMems_allowed_list:\t0-1\n')"
put proc/sys/net/core/rmem_max 212992
put proc/sys/net/core/wmem_max 212992
put sys/devices/system/cpu/online 0-7
for node in 0 1; do
    put sys/devices/system/node/node$node/cpulist "$((node * 4))-$((node * 4 + 3))"
    put sys/devices/system/node/node$node/distance "$([ $node = 0 ] && echo 10 32 || echo 32 10)"
    put sys/devices/system/node/node$node/meminfo "Node $node MemTotal: 67108864 kB"
done
for cpu in 0 1 2 3 4 5 6 7; do
    at=sys/devices/system/cpu/cpu$cpu
    put $at/topology/physical_package_id $((cpu / 4))
    put $at/topology/thread_siblings_list "$((cpu / 2 * 2))-$((cpu / 2 * 2 + 1))"
    put $at/cache/index0/level 1
    put $at/cache/index1/level 3
    put $at/cache/index1/size 32768K
    put $at/cache/index1/shared_cpu_list "$((cpu / 2 * 2))-$((cpu / 2 * 2 + 1))"
done
for half in 0 8; do
    root=pci0000:${half}0
    numa=$((half / 8))
    switch=$root/0000:${half}0:01.0/0000:${half}1:00.0
    pci "$switch/0000:${half}2:00.0/0000:${half}4:00.0" 0x030200 0x10de 0x20b2 $numa "16.0 GT/s PCIe" 16
    nic=$switch/0000:${half}2:01.0/0000:${half}5:00.0
    pci "$nic" 0x020700 0x15b3 0x101b $numa "16.0 GT/s PCIe" $((16 - half))
    virtual=$switch/0000:${half}2:01.0/0000:${half}5:00.2
    pci "$virtual" 0x020700 0x15b3 0x101c $numa Unknown 0
    ln -s ../0000:${half}5:00.0 "$fake/sys/devices/$virtual/physfn"
    device=mlx5_$numa
    mkdir -p "$fake/sys/devices/$nic/infiniband/$device"
    ln -s "../../../0000:${half}5:00.0" "$fake/sys/devices/$nic/infiniband/$device/device"
    ln -s "../../devices/$nic/infiniband/$device" "$fake/sys/class/infiniband/$device"
    put "sys/devices/$nic/infiniband/$device/node_guid" "0c42:a103:0000:000$numa"
    put "sys/devices/$nic/infiniband/$device/ports/1/state" "$([ $half = 0 ] && echo '4: ACTIVE' || echo '1: DOWN')"
    put "sys/devices/$nic/infiniband/$device/ports/1/rate" "200 Gb/sec (4X HDR)"
    put "sys/devices/$nic/infiniband/$device/ports/1/link_layer" InfiniBand
    put "sys/devices/$nic/infiniband/$device/ports/1/gids/0" fe80:0000:0000:0000:0c42:a103:0000:0001
    put "sys/devices/$nic/infiniband/$device/ports/1/gids/1" 0000:0000:0000:0000:0000:0000:0000:0000
    put "sys/devices/$nic/infiniband/$device/ports/1/gid_attrs/types/0" "IB/RoCE v1"
done
pci pci0000:c0/0000:c0:00.0 0x068000 0x10de 0x1af1 1 "2.5 GT/s PCIe" 1
# Two Ethernet functions of one card, a bond over both, a VLAN over the bond.
for function in 0 1; do
    at=pci0000:90/0000:90:01.0/0000:91:00.$function
    pci $at 0x020000 0x8086 0x1563 1 "8.0 GT/s PCIe" 4
    mkdir -p "$fake/sys/devices/$at/net/eth$function"
    ln -s "../../../0000:91:00.$function" "$fake/sys/devices/$at/net/eth$function/device"
    ln -s "../../devices/$at/net/eth$function" "$fake/sys/class/net/eth$function"
    put sys/class/net/eth$function/speed 10000
    put sys/class/net/eth$function/mtu $((1500 + 7500 * function))
    put sys/class/net/eth$function/operstate up
done
put sys/class/net/bond0/bonding/mode active-backup
put sys/class/net/bond0/operstate up
mkdir "$fake/sys/class/net/bond0/lower_eth0" "$fake/sys/class/net/bond0/lower_eth1"
mkdir -p "$fake/sys/class/net/bond0.7/lower_bond0"
put sys/class/net/veth1/operstate up
put sys/class/net/lo/type 772

${CC:-cc} -shared -fPIC -o "$out/libnvidia-ml.so.1" tests/multi/support/fake_nvml.c ||
    fail "the stand-in for NVML does not compile"
export LD_LIBRARY_PATH=$PWD/$out
[[ $BUILD = /* ]] && LD_LIBRARY_PATH=$out

# COMMAND... : GREP-PATTERN is in what it prints
says() {
    local pattern=$1
    shift
    "$topo" "$@" >"$out/printed" 2>&1 || true
    grep -qE -- "$pattern" "$out/printed" || fail "weft-topo $*: '$pattern' is not in: $(cat "$out/printed")"
}
"$topo" --sysfs "$fake" --xml >"$out/machine.xml" || fail "the made-up machine is not read"
says '^host0 fakehost' "$out/machine.xml"
says 'NUMA1 +CPUs 4-7 +64 GB' "$out/machine.xml"
says 'L3-0 to L3-1: 2 caches of +32 MB +2 cores' "$out/machine.xml"
says 'GPU1 +0000:84:00.0 +24.0 GB/s \(x16\) +Made-up GPU 1' "$out/machine.xml"
says 'NIC0 mlx5_0 +0000:05:00.0 +24.0 GB/s \(x16\) +up +200 Gbit/s' "$out/machine.xml"
says 'GPU0 +GPU1 4x 80.0 GB/s, NVSwitch0 2x 40.0 GB/s' "$out/machine.xml"
says 'GPU0 to NIC0: PIX' --explain GPU0 mlx5_0 "$out/machine.xml"
says 'GPU0 to NUMA1: SYS' --explain GPU0 NUMA1 "$out/machine.xml"
says ' 286 ns' --explain NUMA0 NUMA1 "$out/machine.xml"
grep -q 'gids="0:IB/RoCE v1:fe80:' "$out/machine.xml" || fail "no GID table"
grep -q 'over="eth0 eth1".*type="bond"\|type="bond".*over="eth0 eth1"' "$out/machine.xml" || fail "no bond over eth0 and eth1"
grep -q 'name="bond0.7".*over="bond0"' "$out/machine.xml" || fail "no VLAN over bond0"
grep -q 'name="lo"' "$out/machine.xml" && fail "loopback counts as a NIC"
grep -q 'allowed_cpus="0-3"' "$out/machine.xml" || fail "affinity is not read"
# The virtual function stands in its NIC, and the functions of a card share its slot.
says '^ {6,}NIC[0-9]+ +0000:05:00.2' "$out/machine.xml"
says 'NIC[0-9]+ to NIC[0-9]+: LOC' --explain eth0 eth1 "$out/machine.xml"
says 'GPU0 +NIC0 +mlx5_0 +0 ' --nics "$out/machine.xml"

says 'mlx5_1\) runs with 8 of its 16 PCI lanes' --check --sysfs "$fake"
says 'mlx5_1\): a port is down' --check "$out/machine.xml"
says 'eth1\) has MTU 9000' --check "$out/machine.xml"
says 'this process may use 4 of 8 CPUs' --check "$out/machine.xml"
says 'sockets may buffer only 208 KB' --check "$out/machine.xml"
says 'remedy: sysctl -w net.core.rmem_max' --check "$out/machine.xml"
if "$topo" --check "$out/machine.xml" >/dev/null; then fail "--check ends with 0 though there are faults"; fi

# What cannot be seen is said, and is no failure.
mkdir -p "$out/empty"
says 'note: .*/sys/bus/pci shows no devices' --sysfs "$out/empty"
says 'note: .*processors are not known' --sysfs "$out/empty"
LD_LIBRARY_PATH= says 'libnvidia-ml.so.1 cannot be loaded|GPU0 .*NVSwitch0' --sysfs "$fake"

# This machine, whatever it is, and what it writes of itself.
"$topo" >"$out/printed" || fail "this machine is not read"
WEFT_TOPO_DUMP_FILE=$out/dump.json "$topo" >/dev/null
WEFT_TOPO_FILE=$out/dump.json "$topo" --xml >"$out/again.xml"
"$topo" --xml "$out/dump.json" | cmp - "$out/again.xml" || fail "WEFT_TOPO_FILE is not what is read"
code=0
WEFT_TOPO_FILE=$out/none.xml "$topo" >/dev/null 2>"$out/printed" || code=$?
[ $code -eq 1 ] && grep -q 'none.xml: cannot be opened' "$out/printed" || fail "WEFT_TOPO_FILE that is not there: exit code $code"
if "$topo" --hwloc >"$out/printed" 2>&1; then
    grep -q 'by hwloc' "$out/printed" || fail "--hwloc does not say so"
else
    grep -q 'libhwloc.so.15 cannot be loaded' "$out/printed" || fail "--hwloc: $(cat "$out/printed")"
fi
# Three ranks of a job: each sends its machine, rank 0 prints; a rank with another machine is told of.
job() {
    RANK=$1 WORLD_SIZE=3 WEFT_RENDEZVOUS=file://$out/meeting "$topo" ${2:+--sysfs "$2"}
}
[[ $out = /* ]] || out=$PWD/$out
job 1 >"$out/rank1" 2>&1 & first=$!
job 2 "$fake" >"$out/rank2" 2>&1 & second=$!
job 0 >"$out/printed" 2>&1 || fail "a job of three ranks: $(cat "$out/printed")"
wait $first && wait $second || fail "a rank of a job: $(cat "$out/rank1" "$out/rank2")"
[ ! -s "$out/rank1" ] || fail "rank 1 prints: $(cat "$out/rank1")"
grep -q '^3 ranks on 2 hosts' "$out/printed" && grep -q '^host1 fakehost: 1 rank' "$out/printed" &&
    grep -qE '^  rank 2 +NUMA0 +CPUs 0-3 +mlx5_0 rail 0, 25.0 GB/s' "$out/printed" &&
    grep -q 'warning: host1 differs from host0' "$out/printed" || fail "a job of three ranks: $(cat "$out/printed")"
# Measured by ranks of its own; a job takes the file.
"$topo" --measure "$out/measured.json" --ranks 3 >"$out/printed" || fail "--measure --ranks 3: exit code $?"
[ "$(wc -l <"$out/printed")" -ge 2 ] || fail "--measure prints no way between ranks"
grep -qE 'measured_Bps|"source": "measured"' "$out/measured.json" || fail "--measure writes nothing that was measured"
WEFT_TOPO_FILE=$out/measured.json "$BUILD/bin/weft-perf" all_reduce --ranks 2 -e 4K -n 2 >/dev/null ||
    fail "a job with a measured machine"
for wrong in "--measure $out/x.xml" "--ranks 2" "--measure $out/x.xml --ranks 1" \
    "--measure $out/x.xml --ranks 2 $out/dump.json"; do
    code=0
    # shellcheck disable=SC2086
    env -u WORLD_SIZE -u PMIX_RANK -u PMI_SIZE -u SLURM_STEP_ID "$topo" $wrong >/dev/null 2>"$out/printed" || code=$?
    [ $code -eq 2 ] && [ -s "$out/printed" ] || fail "weft-topo $wrong: exit code $code"
done
echo "weft-topo reads this machine and one made of files; NVML, InfiniBand and SR-IOV through files and a stand-in library"
