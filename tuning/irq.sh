#!/bin/sh
# Spreads the work of network interfaces over cores: interrupts of receive queues (IRQ affinity), packets of too few queues (RPS,
# RFS), and choice of transmit queues (XPS). Prints what it would do; --apply does it, as root. Not kept over a reboot.
#
#   tuning/irq.sh [--apply] [--cores FIRST-LAST] [INTERFACE...]
#
# Interfaces: those named, else all with hardware behind them. Cores: all that are online, or those named: take the ones of the
# interface's NUMA node. What each value does and costs, and the kernel's documentation of it: README.md beside this file.
set -eu

apply=no
cores=
interfaces=
# For trying it out on a made-up machine.
sys=${SYSFS:-/sys}
proc=${PROCFS:-/proc}
# Flows that RFS remembers, of the machine; a power of two. 8 bytes each.
flows=65536

fail() {
    echo "irq.sh: $1" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --apply) apply=yes ;;
    --cores)
        [ $# -gt 1 ] || fail "--cores FIRST-LAST"
        cores=$2
        shift
        ;;
    -h | --help)
        sed -n '2,8s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    -*) fail "unknown option $1; try --help" ;;
    *) interfaces="$interfaces $1" ;;
    esac
    shift
done

# 0-2,5 -> 0 1 2 5
expand() {
    echo "$1" | tr ',' '\n' | while IFS=- read -r first last; do
        case $first$last in '' | *[!0-9]*) fail "no list of cores: $1" ;; esac
        seq "$first" "${last:-$first}"
    done | tr '\n' ' '
}

# Cores as a mask in groups of 32 bits: 0 1 33 -> 00000002,00000003
mask() {
    # shellcheck disable=SC2086 # a list of numbers
    printf '%s\n' $1 | awk '
        BEGIN { high = 0 }
        { bits[int($1 / 32)] += 2 ^ ($1 % 32); if (int($1 / 32) > high) high = int($1 / 32) }
        END { for (group = high; group >= 0; group--) printf "%08x%s", bits[group], group ? "," : "\n" }'
}

# Writes a value, or shows what would be written.
put() {
    [ -e "$2" ] || return 0
    echo "echo $1 > $2"
    if [ "$apply" = yes ]; then
        echo "$1" > "$2" || echo "irq.sh: $2 does not take $1" >&2
    fi
}

[ -n "$cores" ] || cores=$(cat "$sys/devices/system/cpu/online")
list=$(expand "$cores") || exit 2
# shellcheck disable=SC2086
set -- $list
count=$#
[ "$count" -gt 0 ] || fail "no cores"
all=$(mask "$list")

# The core with this number in the list, from 0, around.
nth() {
    wanted=$(($1 % count + 1))
    # shellcheck disable=SC2086
    printf '%s\n' $list | sed -n "${wanted}p"
}

if [ -z "$interfaces" ]; then
    for path in "$sys"/class/net/*; do
        if [ -e "$path/device" ]; then interfaces="$interfaces ${path##*/}"; fi
    done
fi
[ -n "$interfaces" ] || { echo "# no interface with hardware behind it" && exit 0; }

if systemctl is-active --quiet irqbalance 2> /dev/null; then
    echo "# irqbalance is running and will undo the affinities: systemctl disable --now irqbalance"
fi

for interface in $interfaces; do
    path=$sys/class/net/$interface
    [ -d "$path" ] || fail "no interface $interface"
    queues=$(find "$path/queues/" -maxdepth 1 -name 'rx-*' | wc -l)
    node=$(cat "$path/device/numa_node" 2> /dev/null || echo -1)
    echo "# $interface: $queues receive queues, NUMA node $node, cores $cores"

    # One interrupt a core, around.
    number=0
    interrupts=$(find "$path/device/msi_irqs/" -maxdepth 1 -type f 2> /dev/null | sed 's|.*/||' | sort -n)
    for interrupt in $interrupts; do
        put "$(nth "$number")" "$proc/irq/$interrupt/smp_affinity_list"
        number=$((number + 1))
    done

    # With a queue for each core the interrupts do it all; with fewer, packets are handed on.
    if [ "$queues" -lt "$count" ]; then
        put "$flows" "$proc/sys/net/core/rps_sock_flow_entries"
        for queue in "$path"/queues/rx-*; do
            put "$all" "$queue/rps_cpus"
            put "$((flows / queues))" "$queue/rps_flow_cnt"
        done
    else
        for queue in "$path"/queues/rx-*; do
            put 0 "$queue/rps_cpus"
        done
    fi

    # Each core its own transmit queue, as far as there are enough. The kernel refuses XPS where there is only one.
    transmit=$(find "$path/queues/" -maxdepth 1 -name 'tx-*' | wc -l)
    if [ "$transmit" -gt 1 ]; then
        number=0
        while [ "$number" -lt "$transmit" ]; do
            own=
            core=$number
            while [ "$core" -lt "$count" ]; do
                own="$own $(nth "$core")"
                core=$((core + transmit))
            done
            if [ -n "$own" ]; then put "$(mask "$own")" "$path/queues/tx-$number/xps_cpus"; fi
            number=$((number + 1))
        done
    fi
done
[ "$apply" = yes ] || echo "# nothing was changed; --apply does it"
