#!/bin/sh
# A Ceph cluster of one node with an S3 gateway, for trying btc-ray against a real object store. Debian, as root:
#   apt-get install --no-install-recommends ceph-mon ceph-mgr ceph-osd radosgw ceph-common
#   benchmarks/radosgw.sh start    # prints the environment that a client needs
#   benchmarks/radosgw.sh kill     # SIGKILL to the gateway; `gateway` starts it again
#   benchmarks/radosgw.sh stop     # ends all of it, by pid, and forgets its data
# Data lie in memory (memstore), nothing is authenticated inside the cluster (cephx off), and all ports are on 127.0.0.1.
set -eu
HOME_DIR=${CEPH_HOME:-/tmp/ceph}
PORT=${S3_PORT:-7480}
CONF=$HOME_DIR/ceph.conf
export CEPH_CONF="$CONF"

configure() {
    mkdir -p "$HOME_DIR/mon" "$HOME_DIR/osd" "$HOME_DIR/mgr" "$HOME_DIR/rgw" "$HOME_DIR/run"
    cat > "$CONF" <<CONF
[global]
fsid = 6f1c3d1e-3f0c-4b6e-9d55-0d2a41f1a6f1
mon host = [v1:127.0.0.1:6789]
auth cluster required = none
auth service required = none
auth client required = none
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
run dir = $HOME_DIR/run
admin socket = $HOME_DIR/run/\$name.asok
log file = $HOME_DIR/\$name.log
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
mon warn on pool no redundancy = false
mon allow pool size one = true
osd crush chooseleaf type = 0
osd pool default pg autoscale mode = off
[mon]
mon data = $HOME_DIR/mon
mon cluster log file = $HOME_DIR/cluster.log
mon data avail crit = 1
mon data avail warn = 2
[mgr]
mgr data = $HOME_DIR/mgr
mgr initial modules =
mgr module path = /usr/share/ceph/mgr
[osd]
osd data = $HOME_DIR/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client.rgw]
rgw data = $HOME_DIR/rgw
rgw frontends = beast endpoint=127.0.0.1:$PORT
rgw thread pool size = 64
CONF
}

daemon() { # NAME COMMAND…: run it, remember its pid
    name=$1
    shift
    "$@" > "$HOME_DIR/$name.out" 2>&1 &
    echo $! > "$HOME_DIR/$name.pid"
}

gateway() {
    daemon rgw radosgw -c "$CONF" -n client.rgw -f
    for _ in $(seq 120); do
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $PORT), 1)" 2> /dev/null && return 0
        sleep 1
    done
    echo "the gateway did not open port $PORT; see $HOME_DIR/client.rgw.log" >&2
    return 1
}

start() {
    configure
    monmaptool --create --clobber --fsid 6f1c3d1e-3f0c-4b6e-9d55-0d2a41f1a6f1 --addv a '[v1:127.0.0.1:6789]' "$HOME_DIR/monmap"
    ceph-mon -c "$CONF" --mkfs -i a --monmap "$HOME_DIR/monmap"
    daemon mon ceph-mon -c "$CONF" -i a -f
    timeout 60 ceph -c "$CONF" osd new 0e0c7f54-8b0b-4f6b-9b5c-6a0a0b1f3c11
    ceph-osd -c "$CONF" -i 0 --mkfs --osd-uuid 0e0c7f54-8b0b-4f6b-9b5c-6a0a0b1f3c11
    daemon osd ceph-osd -c "$CONF" -i 0 -f
    gateway
    timeout 60 radosgw-admin -c "$CONF" -n client.rgw user create --uid=btc --display-name=btc --access-key=btc --secret-key=btc-secret-key > /dev/null
    echo "export AWS_ENDPOINT_URL=http://127.0.0.1:$PORT AWS_ACCESS_KEY_ID=btc AWS_SECRET_ACCESS_KEY=btc-secret-key"
}

end() { # NAME SIGNAL
    if [ -f "$HOME_DIR/$1.pid" ]; then
        kill "-$2" "$(cat "$HOME_DIR/$1.pid")" 2> /dev/null || true
        rm -f "$HOME_DIR/$1.pid"
    fi
}

case ${1:-} in
start) start ;;
gateway) gateway ;;
kill) end rgw KILL ;;
stop)
    for name in rgw osd mgr mon; do end "$name" KILL; done
    rm -rf "$HOME_DIR"
    ;;
*)
    sed -n '2,7p' "$0"
    exit 2
    ;;
esac
