import { defineConfig } from 'vite';

// The server serves index.html at / and everything else below /explorer/. The files are committed and compiled into
// the binary, so the same sources must give the same bytes: names carry content hashes and nothing carries a time.
export default defineConfig({
  base: '/explorer/',
  build: {
    outDir: process.env.EXPLORER_OUT ?? '../src/explorer',
    emptyOutDir: true,
    target: 'es2022',
    sourcemap: false,
    // An inlined worker or font would need blob: and data: sources; a file of our own needs neither.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 5000,
    // The bundled packages ask for their notices to go along.
    license: { fileName: 'licenses.md' },
    rolldownOptions: {
      // The titles of the icons are made from the names of their functions.
      output: { keepNames: true },
      // "use client" speaks to server-side rendering, which this is not.
      onLog: (level, log, report) => log.code === 'MODULE_LEVEL_DIRECTIVE' || report(level, log),
    },
  },
  worker: { format: 'es' },
});
