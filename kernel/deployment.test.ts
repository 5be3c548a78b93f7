import { describe, expect, test } from 'vitest';
import { isAppError } from '../contracts/errors.ts';
import { checkDeployment, type Deployment } from './deployment.ts';

describe('settings that must fit each other', () => {
  const production: Deployment = {
    STEKKER_MODE: 'production',
    STEKKER_ALLOW_LOOPBACK_HTTP: false,
    STEKKER_PUBLIC_URL: 'https://a.example',
    STEKKER_TLS_CERT: undefined,
    STEKKER_TLS_KEY: undefined,
  };
  const development: Deployment = {
    ...production,
    STEKKER_MODE: 'development',
    STEKKER_ALLOW_LOOPBACK_HTTP: true,
    STEKKER_PUBLIC_URL: 'http://localhost:8080',
  };
  const wrongKeys = (its: Deployment): string => {
    try {
      checkDeployment(its);
    } catch (error) {
      if (isAppError(error, 'config-invalid')) return error.faults.map(({ path }) => path).join(' ');
      throw error;
    }
    return '';
  };

  test('production speaks no plain HTTP; development does on localhost, when it is allowed', () => {
    expect(wrongKeys(production)).toBe('');
    expect(wrongKeys(development)).toBe('');
    expect(wrongKeys({ ...development, STEKKER_MODE: 'production' })).toBe(
      'STEKKER_ALLOW_LOOPBACK_HTTP STEKKER_PUBLIC_URL',
    );
    expect(wrongKeys({ ...development, STEKKER_ALLOW_LOOPBACK_HTTP: false })).toBe('STEKKER_PUBLIC_URL');
    expect(wrongKeys({ ...development, STEKKER_PUBLIC_URL: 'http://a.example' })).toBe('STEKKER_PUBLIC_URL');
  });

  test('a certificate and its key come together', () => {
    expect(wrongKeys({ ...production, STEKKER_TLS_CERT: 'a', STEKKER_TLS_KEY: 'b' })).toBe('');
    expect(wrongKeys({ ...production, STEKKER_TLS_CERT: 'a' })).toBe('STEKKER_TLS_KEY');
    expect(wrongKeys({ ...production, STEKKER_TLS_KEY: 'b' })).toBe('STEKKER_TLS_KEY');
  });
});
