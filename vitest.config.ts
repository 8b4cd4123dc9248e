import { defineConfig } from 'vitest/config';
import { generate } from './generate.mjs';

generate();

export default defineConfig({
  define: { MESHD_VERSION: JSON.stringify('0.0.0-test') },
  test: {
    // Many tests wait for timers and sockets more than they compute: one worker more than two cores have.
    maxWorkers: 3,
    include: ['src/**/*.test.ts', 'native/*.test.ts', 'test/*.test.ts', 'bench/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    coverage: {
      include: ['src/**/*.ts', 'native/index.ts'],
      exclude: ['src/rpc/gen/**', '**/*.test-data.ts'],
      reporter: ['json-summary'],
      reportsDirectory: '.cache/coverage',
    },
  },
});
