import { defineConfig } from 'vitest/config';

export default defineConfig({
  define: { MESHD_VERSION: JSON.stringify('0.0.0-test') },
  test: { include: ['src/**/*.test.ts', 'native/*.test.ts', 'test/*.test.ts'], testTimeout: 30_000 },
});
