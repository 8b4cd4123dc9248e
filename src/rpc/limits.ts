import type { ChannelOptions } from '@grpc/grpc-js';

/** Bytes a server takes in one message: requests and agents' reports. */
export const REQUEST_LIMIT = 4 * 1024 * 1024;
/** Bytes a client takes in one message: listings, and assignments of a node with very many services. */
export const REPLY_LIMIT = 64 * 1024 * 1024;
/** Bytes of the headers of one request. */
export const HEADER_LIMIT = 16 * 1024;

/** From the first byte of a connection or request to a whole request, ms. */
export const REQUEST_TIMEOUT = 10_000;
/** Connections of one user at the socket of people; no user can keep the others out. */
export const CONNECTIONS = 512;
/** Calls at a time on one connection of an agent, which needs one. */
const CONCURRENT_STREAMS = 16;

/** What may wait for a peer that reads slowly. One message always may, however long it is. */
export const SEND_QUEUE = {
  messages: 1_024,
  bytes: REPLY_LIMIT,
  /** Milliseconds without the peer having taken anything. */
  timeout: 30_000,
};

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
  'grpc.max_concurrent_streams': CONCURRENT_STREAMS,
  'grpc.max_connection_idle_ms': REQUEST_TIMEOUT, // without any call
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
