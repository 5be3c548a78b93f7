import { describe, expect, test } from 'vitest';
import { isAppError } from '../../contracts/errors.ts';
import { secretText } from '../../test/support/secrets.ts';
import { createOperatorCheck } from './operator.ts';

const token = secretText('token-of-an-operator');
const check = createOperatorCheck({ token, hosts: ['Connector.example'] });
const request = (headers: Record<string, string>) => new Request('http://localhost/', { headers });
const codeOf = (work: () => void) => {
  try {
    work();
    return 'passed';
  } catch (error) {
    if (isAppError(error)) return error.code;
    throw error;
  }
};

describe("who may speak to an operator's API", () => {
  test.each([
    'localhost',
    'localhost:8082',
    '127.0.0.1:8082',
    '[::1]:8082',
    'connector.example',
    'CONNECTOR.example:1',
  ])('whoever calls it %s', (host) => {
    expect(codeOf(() => check.host(request({ host })))).toBe('passed');
  });

  test.each([
    '',
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'localhost@evil.example',
    '[::1',
    'a b',
  ])('nobody who calls it "%s"', (host) => {
    expect(codeOf(() => check.host(request({ host })))).toBe('forbidden');
  });

  test('whoever has the token', () => {
    expect(codeOf(() => check.token(request({ authorization: `Bearer ${token}` })))).toBe('passed');
  });

  test.each([
    '',
    `Basic ${token}`,
    'Bearer ',
    `Bearer ${token}x`,
    `Bearer ${token.slice(0, -1)}`,
    `Bearer ${token.toUpperCase()}`,
    `Bearer ${token} ${token}`,
  ])('nobody who sends "%s"', (authorization) => {
    expect(codeOf(() => check.token(request({ authorization })))).toBe('unauthenticated');
  });
});
