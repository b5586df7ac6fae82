import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { startDemo } from '../support/demo.js'
import { missing, type Tool } from '../support/tools.js'

const run = promisify(execFile)
const python = process.env.COUNTERSIGN_TEST_PYTHON ?? 'python3'
const spiffePackage: Tool = {
  probe: [python, '-c', 'import spiffe'],
  install: 'pip install -r test/interop/python/requirements.txt',
}

describe.skipIf(missing('the spiffe package of PyPI as a peer', spiffePackage))(
  'a workload written in Python',
  () => {
    test('fetches X509-SVIDs, JWT-SVIDs and bundles, and has a token validated (WE-3)', async () => {
      await using demo = await startDemo()
      const { stdout } = await run(python, [
        join(import.meta.dirname, 'python/workload.py'),
        demo.endpoints.shop,
        'orders',
      ])
      expect(JSON.parse(stdout)).toEqual({
        x509: demo.ids.shop,
        chain: 2,
        jwt: demo.ids.shop,
        validated: demo.ids.shop,
        jwt_bundles: 1,
        x509_source: demo.ids.shop,
        jwt_source: demo.ids.shop,
      })
    }, 120_000)
  },
)
