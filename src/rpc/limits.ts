import type { ChannelOptions } from '@grpc/grpc-js';

/** Bytes a server takes in one message: requests and agents' reports. */
export const REQUEST_LIMIT = 4 * 1024 * 1024;
/** Bytes a client takes in one message: listings, and assignments of a node with very many services. */
export const REPLY_LIMIT = 64 * 1024 * 1024;

/** Silence (ms) that ends a connection whose request is not whole yet. */
export const REQUEST_PATIENCE = 10_000;

/** An idle connection is probed after this long (ms) and given up this long after an unanswered probe. */
export const KEEPALIVE_TIME = 10_000;
export const KEEPALIVE_TIMEOUT = 5_000;

const keepalive: ChannelOptions = {
  'grpc.keepalive_time_ms': KEEPALIVE_TIME,
  'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT,
};

export const serverOptions: ChannelOptions = {
  ...keepalive,
  'grpc.max_receive_message_length': REQUEST_LIMIT,
  'grpc.max_send_message_length': REPLY_LIMIT,
};

export const clientOptions: ChannelOptions = {
  ...keepalive,
  'grpc.max_receive_message_length': REPLY_LIMIT,
  'grpc.max_send_message_length': REPLY_LIMIT,
  'grpc.initial_reconnect_backoff_ms': 200,
  'grpc.min_reconnect_backoff_ms': 200,
  'grpc.max_reconnect_backoff_ms': 2_000,
  'grpc.enable_retries': 0, // our callers decide, they know what is safe to repeat
  'grpc.use_local_subchannel_pool': 1, // closing one connection must not keep another one's state alive
  'grpc.enable_http_proxy': 0, // http_proxy in the environment is for the web, not for the cluster
};
