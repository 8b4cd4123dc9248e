/**
 * Keys of the compose-spec (schema/compose-spec.json of compose-go) that meshd does not support yet, with a remedy.
 * A key that is neither here nor in the schema is misspelled.
 */
const REMOVE = 'remove it, or rename it to an `x-` key to keep it as a note';
const PROCESS = 'run a `command` with `x-mesh: {runtime: process}` instead';
const PLAIN = (keys: string): Record<string, string> =>
  Object.fromEntries(keys.split(/\s+/).map((key) => [key, REMOVE]));

export const UNSUPPORTED = {
  file: PLAIN('include models networks volumes secrets configs'),
  service: {
    ...PLAIN(`annotations attach blkio_config cgroup cgroup_parent configs container_name cpu_count
      cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec depends_on
      develop device_cgroup_rules devices dns dns_opt dns_search domainname external_links extra_hosts gpus group_add
      hostname init ipc isolation label_file links mac_address mem_limit mem_reservation
      mem_swappiness memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform
      post_start pre_stop profiles provider pull_policy pull_refresh_after read_only runtime secrets
      security_opt shm_size stdin_open stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket userns_mode uts
      volumes volumes_from`),
    image: PROCESS,
    build: PROCESS,
    env_file: 'write the variables under `environment`',
    expose: 'remove it: ports between tasks need no declaration',
    extends: 'use a YAML anchor with a merge key (`<<: *base`)',
    restart: 'use `deploy.restart_policy`',
    scale: 'use `deploy.replicas`',
  },
  deploy: PLAIN('resources rollback_config'),
  update: PLAIN('failure_action monitor max_failure_ratio'),
  placement: PLAIN('preferences max_replicas_per_node'),
} as const;

/** Examples that show how a key is written, for values of the wrong kind. */
const EXAMPLES: Record<string, string> = {
  services: 'services: {web: {command: …}}',
  deploy: 'deploy: {replicas: 3}',
  placement: 'placement: {constraints: [node.labels.zone == a]}',
  constraints: 'constraints: [node.hostname == node1, node.labels.zone != a]',
  restart_policy: 'restart_policy: {condition: on-failure}',
  ports: 'ports: ["8080:80"]',
  'x-mesh': 'x-mesh: {runtime: process}',
  runtime: 'runtime: process',
  environment: 'environment: {KEY: value}',
  labels: 'labels: {key: value}',
  command: 'command: [sleep, "60"]',
  entrypoint: 'entrypoint: [/usr/bin/env]',
  replicas: 'replicas: 3',
  mode: 'mode: replicated',
  endpoint_mode: 'endpoint_mode: vip',
  condition: 'condition: on-failure',
  delay: 'delay: 5s',
  window: 'window: 1m30s',
  stop_grace_period: 'stop_grace_period: 10s',
  max_attempts: 'max_attempts: 3',
  target: 'target: 80',
  published: 'published: 8080',
  protocol: 'protocol: tcp',
  ingress: 'ingress: {nodes: [node.labels.edge == true], addresses: [192.0.2.0/24]}',
  nodes: 'nodes: [node.labels.edge == true]',
  addresses: 'addresses: [192.0.2.7, 2001:db8::/32]',
  allow_from: 'allow_from: [10.0.0.0/8, 2001:db8::/32]',
  scheduler_flags: 'scheduler_flags: [sh-port]',
  persistence: 'persistence: 5m',
  timeout: 'timeout: 5s',
  update_config: 'update_config: {parallelism: 2, delay: 10s, order: start-first}',
  healthcheck: 'healthcheck: {test: curl -f http://127.0.0.1/, interval: 10s}',
  http: 'http: {port: 80, path: /health}',
  weight: 'weight: node.labels.cpus',
  ready: 'ready: [21, 53/udp]',
  user: 'user: "1000:1000"',
  cap_add: 'cap_add: [NET_ADMIN]',
  cap_drop: 'cap_drop: [ALL]',
  privileged: 'privileged: true',
  logging: 'logging: {options: {max-size: 10m, max-file: 3}}',
  options: 'options: {max-size: 10m, max-file: 3}',
  working_dir: 'working_dir: /srv',
  name: 'name: demo',
};

/** A remedy that shows the right form of the last key of the path. */
export function exampleFor(path: readonly PropertyKey[]): string {
  if (path.length === 2 && path[0] === 'services') {
    return 'write at least `{command: [sleep, "60"], x-mesh: {runtime: process}}`';
  }
  const key = path.findLast((step) => typeof step === 'string');
  const example = key === undefined ? undefined : EXAMPLES[key];
  return example === undefined ? 'use a value of that kind' : `write it like \`${example}\``;
}
