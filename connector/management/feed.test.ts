import { describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { secretText } from '../../test/support/secrets.ts';
import { createApi } from './api.ts';
import { addEventRoutes } from './event-routes.ts';
import { createProcessFeed } from './feed.ts';

const us = 'us' as ParticipantId;
const notice = (pid: string, participant = us) => ({
  protocol: 'negotiations',
  participant,
  pid,
  role: 'consumer' as const,
  peer: 'did:web:p.example' as Did,
  state: 'REQUESTED',
  at: 1,
});

describe('the feed of changes', () => {
  test('gives what came behind a place, to its participant alone', () => {
    const feed = createProcessFeed('run');
    const heard: string[] = [];
    const stop = feed.subscribe(us, ({ notice: { pid } }) => void heard.push(pid));
    feed.publish(notice('a'));
    const place = feed.place();
    feed.publish(notice('b'));
    feed.publish(notice('x', 'other' as ParticipantId));
    stop();
    feed.publish(notice('c'));
    expect(heard).toEqual(['a', 'b']);
    const { events, isComplete } = feed.since(us, place);
    expect(events.map(({ notice: { pid } }) => pid)).toEqual(['b', 'c']);
    expect(isComplete).toBe(true);
    expect(feed.since(us, feed.place())).toEqual({ events: [], isComplete: true });
  });

  test('says to whoever comes back that it was away itself', () => {
    const feed = createProcessFeed('run');
    feed.publish(notice('a'));
    const place = feed.place();
    feed.missed();
    feed.publish(notice('b'));
    expect(feed.since(us, place).isComplete).toBe(false);
    expect(feed.since(us, feed.place())).toEqual({ events: [], isComplete: true });
  });

  test('is bounded, and says when something is no longer known', () => {
    const feed = createProcessFeed('run');
    const first = feed.place();
    for (let index = 0; index < 20_000; index += 1) feed.publish(notice(String(index)));
    const { events, isComplete } = feed.since(us, first);
    expect(isComplete).toBe(false);
    expect(events.length).toBeLessThanOrEqual(10_000);
    expect(feed.since(us, 'run-19999')).toMatchObject({ isComplete: true, events: [{ notice: { pid: '19999' } }] });
    for (const place of ['other-3', 'run-20001', 'run-x', '', 'run--1'])
      expect(feed.since(us, place).isComplete).toBe(false);
  });

  test('a reader that does not read is dropped, and gets all of it when it comes back', async () => {
    const feed = createProcessFeed('run');
    const token = secretText('token-of-the-operator');
    const api = createApi({ participant: us, token, hosts: [], log: silentLogger });
    const stopped = new AbortController();
    addEventRoutes(api, { feed, clock: systemClock, signal: stopped.signal });
    const read = (more: object = {}) => {
      const headers = { host: 'localhost', authorization: `Bearer ${token}`, ...more };
      return api.app.fetch(new Request('http://localhost/v1/events', { headers }));
    };
    const slow = await read();
    for (let index = 0; index < 5_000; index += 1) feed.publish(notice(String(index)));
    await expect(slow.text()).rejects.toThrow('too slow');
    const resumed = await read({ 'last-event-id': 'run-10' });
    feed.publish(notice('last'));
    stopped.abort();
    const events = (await resumed.text()).split('\n\n');
    expect(events.filter((part) => part.includes('event: process'))).toHaveLength(4_991);
    expect(events.at(-3)).toBe('id: run-5000\nevent: ready\ndata: {}');
  });
});
