#!/usr/bin/env bash
# A small OpenStack for the tests of the Nova driver: hack/openstack.sh setup | up | compute | down
#
#   setup    installs keystone, glance, placement, nova, neutron and what they need (as root, 400 MB)
#   up       starts them, with this checkout's driver and bin/vmruntime; then `. $NOVA_DIR/openrc`
#   compute  starts nova-compute again, which tests end
#   down     ends everything and removes $NOVA_DIR; the logs go to $NOVA_KEEP_LOGS, if that is set
#
# NOVA_DIR is where everything lives (/tmp/vmruntime-nova), its logs in log/. For tests only: one
# account with a known password, and no firewall. Start it in a network namespace of its own,
# such as `unshare --net --mount --pid --fork --mount-proc`, where the host has bridges or
# namespaces to keep.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=hack/lib.sh
. hack/lib.sh

dir=${NOVA_DIR:-/tmp/vmruntime-nova}
password=secret
# Two of these see each other's cgroups, which are the host's.
cgroup=vmruntime-nova${dir//\//-}
agent_link=vmrt-agent
# Debian's own: where there is another python3, it has no Nova.
python=/usr/bin/python3
db=mysql+pymysql://os:$password@127.0.0.1:3316
mq=rabbit://os:$password@127.0.0.1:5682/

packages=(
	python3-nova nova-common
	glance-common python3-keystone python3-placement placement-common
	python3-neutron neutron-common neutron-linuxbridge-agent
	mariadb-server rabbitmq-server uwsgi-core uwsgi-plugin-python3
	# Tests speak to it with openstacksdk.
	python3-openstacksdk
	# Images of the tests are made of it.
	busybox-static
	# OpenStack's own tests, which are also run with runc, to compare.
	python3-tempest runc
	curl iproute2 procps
)

setup() {
	[ "$(id -u)" = 0 ] || die "run it as root: it installs packages"
	local policy=/usr/sbin/policy-rc.d made=
	# Nothing may start on installation: policy-rc.d is what invoke-rc.d asks.
	[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=1; }
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
		-o Dpkg::Options::=--force-unsafe-io "${packages[@]}" </dev/null
	[ -z "$made" ] || rm $policy
}

# Processes. Each is the leader of a group whose id is in pids/.

# start NAME COMMAND...
start() {
	local name=$1
	shift
	setsid "$@" >"$dir/log/$name.out" 2>&1 </dev/null &
	echo $! >"$dir/pids/$name"
}

stop() {
	local file=$dir/pids/$1 group i
	[ -e "$file" ] || return 0
	group=$(<"$file")
	kill -TERM -- "-$group" 2>/dev/null || true
	for ((i = 0; i < 75; i++)); do
		kill -0 -- "-$group" 2>/dev/null || break
		sleep 0.2
	done
	kill -KILL -- "-$group" 2>/dev/null || true
	rm "$file"
}

# until_true SECONDS WHAT COMMAND...
until_true() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || die "$what: not there in time; logs are in $dir/log"
		sleep 0.2
	done
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
answers() { curl --silent --noproxy '*' --output /dev/null "http://127.0.0.1:$1/"; }

# Database and queue, on ports of their own.

sql() { mariadb --no-defaults -uroot -S "$dir/run/mysql.sock" "$@"; }

mariadb_up() {
	mkdir -p "$dir/data/mysql"
	chown mysql "$dir/data/mysql"
	chmod 1777 "$dir/run"
	mariadb-install-db --no-defaults --user=mysql --datadir="$dir/data/mysql" --skip-test-db \
		--auth-root-authentication-method=socket >"$dir/log/mysql-install.out" 2>&1
	start mariadb /usr/sbin/mariadbd --no-defaults --user=mysql --datadir="$dir/data/mysql" \
		--socket="$dir/run/mysql.sock" --pid-file="$dir/run/mysql.pid" --bind-address=127.0.0.1 --port=3316 \
		--innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M --max-connections=500 \
		--performance-schema=OFF --character-set-server=utf8mb3
	until_true 60 mariadb port_open 3316
	local name
	{
		echo "CREATE USER os@'127.0.0.1' IDENTIFIED BY '$password'; CREATE USER os@localhost IDENTIFIED BY '$password';"
		for name in keystone glance placement nova_api nova nova_cell0 neutron; do
			echo "CREATE DATABASE $name; GRANT ALL ON $name.* TO os@'127.0.0.1'; GRANT ALL ON $name.* TO os@localhost;"
		done
	} | sql
}

rabbitmq_up() {
	local etc=$dir/etc/rabbit
	mkdir -p "$etc" "$dir/data/rabbit" "$dir/log/rabbit"
	: >"$etc/enabled_plugins"
	cat >"$etc/rabbitmq.conf" <<-X
		listeners.tcp.1 = 127.0.0.1:5682
		default_user = os
		default_pass = $password
		vm_memory_high_watermark.absolute = 512MB
		disk_free_limit.absolute = 50MB
	X
	chown -R rabbitmq "$etc" "$dir/data/rabbit" "$dir/log/rabbit"
	# Debian's wrapper drops the environment.
	start rabbitmq env -C "$dir/data/rabbit" HOME="$dir/data/rabbit" \
		RABBITMQ_NODENAME=vmruntime@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_DIST_PORT=25682 \
		ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=4379 RABBITMQ_CONFIG_FILE="$etc/rabbitmq.conf" \
		RABBITMQ_CONF_ENV_FILE=/nonexistent RABBITMQ_MNESIA_BASE="$dir/data/rabbit" RABBITMQ_LOG_BASE="$dir/log/rabbit" \
		RABBITMQ_ENABLED_PLUGINS_FILE="$etc/enabled_plugins" \
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none' \
		setpriv --reuid rabbitmq --regid rabbitmq --init-groups /usr/lib/rabbitmq/bin/rabbitmq-server
}

# Configuration.

account() {
	cat <<-X
		auth_url = http://127.0.0.1:5000
		auth_type = password
		project_domain_name = Default
		user_domain_name = Default
		project_name = admin
		username = admin
		password = $password
		region_name = RegionOne
	X
}

# section NAME has the account's lines in it.
section() { printf '[%s]\n%s\n' "$1" "$(account)"; }

keystone_config() {
	local etc=$dir/etc/keystone entry kind
	mkdir -p "$etc/keys" "$etc/credential-keys"
	chmod 700 "$etc"
	cat >"$etc/keystone.conf" <<-X
		[DEFAULT]
		log_file = $dir/log/keystone.log
		[database]
		connection = $db/keystone
		[fernet_tokens]
		key_repository = $etc/keys
		[fernet_receipts]
		key_repository = $etc/keys
		[credential]
		key_repository = $etc/credential-keys
		# Every service asks about every token. There is one process, which sees all changes.
		[cache]
		enabled = true
		backend = dogpile.cache.memory
		[identity]
		password_hash_rounds = 4
		[catalog]
		driver = templated
		template_file = $etc/catalog.templates
	X
	# Bootstrapping writes a catalog, which the templates take no writing to.
	printf '[catalog]\ndriver = sql\n' >"$etc/bootstrap.conf"
	for entry in identity=5000/v3 image=9292 placement=8778 compute=8774/v2.1 network=9696; do
		for kind in public internal admin; do
			echo "catalog.RegionOne.${entry%%=*}.${kind}URL = http://127.0.0.1:${entry#*=}"
		done
		echo "catalog.RegionOne.${entry%%=*}.name = ${entry%%=*}"
	done >"$etc/catalog.templates"
}

glance_config() {
	local etc=$dir/etc/glance
	mkdir -p "$etc" "$dir"/data/glance{,-tasks,-staging}
	cp /usr/share/glance-common/glance-api-paste.ini "$etc/"
	: >"$etc/glance-image-import.conf"
	cat >"$etc/glance-api.conf" <<-X
		[DEFAULT]
		log_file = $dir/log/glance.log
		enabled_backends = file:file
		transport_url = $mq
		[database]
		connection = $db/glance
		[paste_deploy]
		flavor = keystone
		[glance_store]
		default_backend = file
		[file]
		filesystem_store_datadir = $dir/data/glance
		[os_glance_tasks_store]
		filesystem_store_datadir = $dir/data/glance-tasks
		[os_glance_staging_store]
		filesystem_store_datadir = $dir/data/glance-staging
		$(section keystone_authtoken)
	X
}

placement_config() {
	mkdir -p "$dir/etc/placement"
	cat >"$dir/etc/placement/placement.conf" <<-X
		[DEFAULT]
		log_file = $dir/log/placement.log
		[api]
		auth_strategy = keystone
		[placement_database]
		connection = $db/placement
		$(section keystone_authtoken)
	X
}

# nova-compute refuses to start where it finds a database.
nova_config() {
	local etc=$dir/etc/nova
	mkdir -p "$etc" "$dir/data/instances"
	cp /usr/share/nova-common/api-paste.ini "$etc/"
	cat >"$etc/compute.conf" <<-X
		[DEFAULT]
		my_ip = 127.0.0.1
		host = compute
		state_path = $dir/data
		instances_path = $dir/data/instances
		transport_url = $mq
		compute_driver = vmruntime.VMRuntimeDriver
		vif_plugging_timeout = 60
		shutdown_timeout = 10
		reserved_host_memory_mb = 1024
		reserved_host_disk_mb = 0
		debug = true
		[vmruntime]
		runtime = $dir/bin/vmruntime
		cgroup_parent = /$cgroup
		[api]
		auth_strategy = keystone
		[glance]
		api_servers = http://127.0.0.1:9292
		[oslo_concurrency]
		lock_path = $dir/run/locks
		[service_user]
		send_service_user_token = true
		$(account)
		$(section placement)
		$(section neutron)
		$(section keystone_authtoken)
		[conductor]
		workers = 1
		[scheduler]
		workers = 1
		discover_hosts_in_cells_interval = 2
		[wsgi]
		api_paste_config = $etc/api-paste.ini
		[cache]
		enabled = false
		# Tests have a stand-in there.
		[cinder]
		endpoint_template = http://127.0.0.1:8776/v3/%(project_id)s
		[serial_console]
		enabled = true
		base_url = ws://127.0.0.1:6083/
		serialproxy_host = 127.0.0.1
		proxyclient_address = 127.0.0.1
	X
	{
		cat "$etc/compute.conf"
		printf '[api_database]\nconnection = %s/nova_api\n[database]\nconnection = %s/nova\n' "$db" "$db"
	} >"$etc/nova.conf"
	cat >"$dir/etc/vmruntime.toml" <<-X
		image_store = "$dir/data/images"
		image_limit = "64MiB"
	X
}

neutron_config() {
	local etc=$dir/etc/neutron
	mkdir -p "$etc" "$dir/data/neutron" "$dir/bin"
	cp /usr/share/neutron-common/api-paste.ini "$etc/" 2>/dev/null || cp /etc/neutron/api-paste.ini "$etc/"
	cat >"$etc/neutron.conf" <<-X
		[DEFAULT]
		state_path = $dir/data/neutron
		core_plugin = ml2
		service_plugins =
		auth_strategy = keystone
		transport_url = $mq
		bind_host = 127.0.0.1
		api_workers = 1
		rpc_workers = 0
		rpc_state_report_workers = 0
		dhcp_agent_notification = false
		host = compute
		api_paste_config = $etc/api-paste.ini
		[database]
		connection = $db/neutron
		[oslo_concurrency]
		lock_path = $dir/run/locks
		[experimental]
		linuxbridge = true
		$(section nova)
		$(section keystone_authtoken)
	X
	cat >"$etc/ml2.ini" <<-X
		[ml2]
		type_drivers = local
		tenant_network_types = local
		mechanism_drivers = linuxbridge
		extension_drivers = port_security
		[securitygroup]
		firewall_driver = noop
		[vxlan]
		enable_vxlan = false
		[agent]
		polling_interval = 1
		root_helper =
		[privsep]
		helper_command = env privsep-helper --config-file $etc/neutron.conf --config-file $etc/ml2.ini
	X
	# The agent's rules against ARP spoofing need features of ebtables that not every
	# kernel has, and no port is reported as up until they are there.
	printf '#!/bin/sh\nexit 0\n' >"$dir/bin/ebtables"
	chmod 755 "$dir/bin/ebtables"
}

openrc() {
	cat >"$dir/openrc" <<-X
		export OS_AUTH_URL=http://127.0.0.1:5000/v3 OS_USERNAME=admin OS_PASSWORD=$password OS_PROJECT_NAME=admin
		export OS_USER_DOMAIN_NAME=Default OS_PROJECT_DOMAIN_NAME=Default OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=RegionOne
		export OS_COMPUTE_API_VERSION=2.92 NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost
		export NOVA_DIR=$dir NOVA_CGROUP=$cgroup VMRUNTIME_CONFIG=$dir/etc/vmruntime.toml
	X
}

# Schemas.

keystone_schema() {
	local manage=(keystone-manage --config-file "$dir/etc/keystone/keystone.conf")
	"${manage[@]}" db_sync
	"${manage[@]}" fernet_setup --keystone-user root --keystone-group root
	"${manage[@]}" credential_setup --keystone-user root --keystone-group root
	"${manage[@]}" --config-file "$dir/etc/keystone/bootstrap.conf" bootstrap --bootstrap-password "$password"
}

nova_schema() {
	local manage=(nova-manage --config-file "$dir/etc/nova/nova.conf")
	"${manage[@]}" api_db sync
	"${manage[@]}" cell_v2 map_cell0 --database_connection "$db/nova_cell0"
	"${manage[@]}" cell_v2 create_cell --name cell1
	"${manage[@]}" db sync
}

other_schemas() {
	glance-manage --config-file "$dir/etc/glance/glance-api.conf" db_sync
	placement-manage --config-file "$dir/etc/placement/placement.conf" db sync
	neutron-db-manage "${neutron[@]}" upgrade head
}

# schemas runs them side by side.
schemas() {
	local name waiting=()
	for name in keystone nova other; do
		local command=${name}_schema
		[ $name != other ] || command=other_schemas
		(set -e && $command) >"$dir/log/$name-schema.out" 2>&1 &
		waiting+=("$name:$!")
	done
	for name in "${waiting[@]}"; do
		wait "${name#*:}" || die "schema of ${name%:*} failed; see $dir/log/${name%:*}-schema.out"
	done
}

# Services.

neutron=(--config-file "$dir/etc/neutron/neutron.conf" --config-file "$dir/etc/neutron/ml2.ini")

# wsgi NAME PORT FILE PROCESSES THREADS ENVIRONMENT... uwsgi closes after each answer, but does not
# say so by itself. One that serves a single request at a time waits seconds for slow clients.
wsgi() {
	start "$1" env "${@:6}" uwsgi --plugin python3 --http-socket "127.0.0.1:$2" --wsgi-file "$3" --master \
		--processes "$4" --threads "$5" --enable-threads --need-app --die-on-term --buffer-size 65535 --thunder-lock \
		--lazy-apps --add-header 'Connection: close' --disable-logging
}

# service NAME MODULE ARGUMENTS... what Debian's packages of daemons do.
service() {
	start "$1" env ${environment:+"$environment"} "$python" -c "import sys; sys.argv[0] = '$1'
from $2 import main; main()" "${@:3}" --log-file "$dir/log/$1.log"
}

services() {
	local nova=(--config-file "$dir/etc/nova/nova.conf")
	wsgi keystone 5000 /usr/bin/keystone-wsgi-public 1 4 OS_KEYSTONE_CONFIG_FILES="$dir/etc/keystone/keystone.conf" OS_KEYSTONE_CONFIG_DIR="$dir/etc/keystone"
	wsgi glance 9292 /usr/bin/glance-wsgi-api 1 4 OS_GLANCE_CONFIG_DIR="$dir/etc/glance"
	wsgi placement 8778 /usr/bin/placement-api 1 4 OS_PLACEMENT_CONFIG_DIR="$dir/etc/placement"
	# More than one: a request that waits for nova-compute must not block the event of a plugged port.
	# Processes, for eventlet's answers do not find their way between threads.
	wsgi nova-api 8774 /usr/bin/nova-api-wsgi 3 1 OS_NOVA_CONFIG_DIR="$dir/etc/nova"
	until_true 120 rabbitmq port_open 5682
	until_true 120 keystone answers 5000
	service nova-conductor nova.cmd.conductor "${nova[@]}"
	service nova-scheduler nova.cmd.scheduler "${nova[@]}"
	service nova-serialproxy nova.cmd.serialproxy "${nova[@]}"
	service neutron-server neutron.cmd.eventlet.server "${neutron[@]}"
	until_true 120 neutron-server port_open 9696
	agent
	until_true 120 glance answers 9292
	until_true 120 placement answers 8778
	until_true 120 nova-api answers 8774
}

# The agent's id is an interface's address, and a namespace of its own has only lo.
agent() {
	ip link show $agent_link >/dev/null 2>&1 || ip link add $agent_link type bridge
	environment=PATH=$dir/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		service neutron-agent neutron.cmd.eventlet.plugins.linuxbridge_neutron_agent "${neutron[@]}"
}

compute() {
	stop nova-compute
	VMRUNTIME_CONFIG=$dir/etc/vmruntime.toml environment=PYTHONPATH=$PWD/nova \
		service nova-compute vmruntime_nova.launcher --config-file "$dir/etc/nova/compute.conf"
}

mapped() { [ "$(sql -N -e 'SELECT COUNT(*) FROM nova_api.host_mappings')" -gt 0 ]; }

# seed makes a flavor and a network.
seed() {
	# shellcheck disable=SC1091
	(. "$dir/openrc" && "$python" -) <<-'X'
		import time
		import openstack
		c = openstack.connect()
		c.compute.create_flavor(name="tiny", vcpus=1, ram=128, disk=1)
		# Neutron 21 never answers for ports where nobody has asked for networks before.
		assert not list(c.network.networks())
		net = c.network.create_network(name="net", shared=True)
		c.network.create_subnet(name="subnet", network_id=net.id, ip_version=4, cidr="10.99.0.0/24", enable_dhcp=False, gateway_ip=None)
		# Without the agent no port is bound.
		until = time.monotonic() + 120
		while not any(a.is_alive for a in c.network.agents()):
		    assert time.monotonic() < until, "the agent does not report"
		    time.sleep(0.5)
	X
}

up() {
	[ "$(id -u)" = 0 ] || die "run it as root: containers need it"
	[ ! -e "$dir" ] || down
	mkdir -p "$dir"/{bin,etc,log,pids,run/locks,data}
	chmod 755 "$dir"
	phase database mariadb_up
	rabbitmq_up
	for name in keystone glance placement nova neutron; do "${name}_config"; done
	openrc
	# Tests put something else here.
	ln -s "$PWD/bin/vmruntime" "$dir/bin/vmruntime"
	phase schemas schemas
	phase services services
	compute
	phase seed seed
	phase host until_true 120 "the compute host" mapped
	timings
	say "ready: . $dir/openrc"
}

down() {
	local name
	for name in nova-compute nova-serialproxy nova-scheduler nova-conductor nova-api neutron-agent neutron-server placement glance keystone rabbitmq mariadb; do
		stop "$name"
	done
	# It leaves its group; this one is known by its port.
	for name in $(pgrep -x epmd); do
		! grep -qzx ERL_EPMD_PORT=4379 "/proc/$name/environ" || kill "$name"
	done
	find /sys/fs/cgroup -maxdepth 2 -depth -type d -name "$cgroup" -exec rmdir {} \;
	for name in $(ip -o link show type bridge | grep -o "brq[0-9a-f-]*\|$agent_link"); do ip link delete "$name"; done
	if [ -n "${NOVA_KEEP_LOGS-}" ] && [ -d "$dir/log" ]; then
		rm -rf "$NOVA_KEEP_LOGS"
		mkdir -p "$(dirname "$NOVA_KEEP_LOGS")"
		cp -r "$dir/log" "$NOVA_KEEP_LOGS"
	fi
	rm -rf "$dir"
}

case ${1-} in
setup | up | compute | down) "$1" ;;
*) die "usage: hack/openstack.sh setup | up | compute | down" ;;
esac
