/**
 * Stands in for the library's own, which loads the schema of descriptor.proto: 20 ms at each start, for this one enum, which
 * Connect compares with. See literalDescriptors in generate.mjs.
 */
export const MethodOptions_IdempotencyLevel = { IDEMPOTENCY_UNKNOWN: 0, NO_SIDE_EFFECTS: 1, IDEMPOTENT: 2 } as const;
