/** Which node of a cluster is used. */
import { expect, test } from 'vitest';
import { HostRota } from '#engine/storage/host-rota.js';
import { addressOf } from '#engine/storage/server/url.js';

const HOSTS = ['a', 'b', 'c'].map((host) => ({ host, port: 1 }));

function rota() {
  const one = new HostRota(HOSTS);
  const tried: string[] = [];
  const down = new Set<string>();
  const connect = (): Promise<void> =>
    one.connect(
      async ({ host }) => {
        tried.push(host);
        if (down.has(host)) throw new Error(`${host} is down`);
      },
      async () => {},
    );
  return { one, tried, down, connect };
}

test('the first that can be used is, and stays, until it cannot be', async () => {
  const { tried, down, connect } = rota();
  down.add('a');
  await connect();
  expect(tried).toEqual(['a', 'b']);
  down.clear();
  await connect();
  expect(tried).toEqual(['a', 'b', 'b']);
  down.add('b');
  await connect();
  expect(tried).toEqual(['a', 'b', 'b', 'b', 'c']);
});

test('where none can be used, each was tried once, and what the first said is told', async () => {
  const { tried, down, connect } = rota();
  for (const { host } of HOSTS) down.add(host);
  await expect(connect()).rejects.toThrow('a is down');
  expect(tried).toEqual(['a', 'b', 'c']);
});

test('behind one that hangs the next call finds the next, and the one that hung is no longer used', async () => {
  const { one } = rota();
  let goOn = (): void => {};
  const hanging = one.connect(
    () =>
      new Promise((resolve) => {
        goOn = resolve;
      }),
    async () => {},
  );
  await Promise.resolve();
  const tried: string[] = [];
  await one.connect(
    async ({ host }) => void tried.push(host),
    async () => {},
  );
  expect(tried).toEqual(['b']);
  goOn();
  await expect(hanging).rejects.toThrow('connected anew');
});

test('a URL names several nodes, each with its port, and tells them without the password', () => {
  const { hosts, place, database } = addressOf('mariadb://shop:p%40ss@db1,db2:3307,[::1]:3308/shop', 3306);
  expect(hosts).toEqual([
    { host: 'db1', port: 3306 },
    { host: 'db2', port: 3307 },
    { host: '::1', port: 3308 },
  ]);
  expect(place).toBe('mariadb://shop@db1:3306,db2:3307,[::1]:3308/shop');
  expect(database).toBe('shop');
});

test.each(['mariadb://u:secret@a,b:x/db', 'mariadb://u:secret@a:1,b c/db', 'nothing'])(
  'the URL %s is refused, with its form and without its parts',
  (url) => {
    expect(() => addressOf(url, 1)).toThrow('scheme://user:password@host:port,host:port/database');
    expect(() => addressOf(url, 1)).not.toThrow('secret');
  },
);

test('a port that is none is named as such, not the whole URL, and no digits are repeated', () => {
  for (const url of [
    'mariadb://shop:secret@db:33060000/shop',
    'postgres://db1:5432,db2:65536/shop',
    'mysql://[::1]:0/shop',
    'mysql://shop:70000secret@db:99999/shop',
    'mysql://shop:99999/secret@db/shop',
  ]) {
    expect(() => addressOf(url, 1)).toThrow('sqlUrl cannot be used: a port in it is out of range');
    expect(() => addressOf(url, 1)).not.toThrow(/secret|99999|33060000/);
  }
  expect(addressOf('mysql://db:65535/shop', 1).hosts).toEqual([{ host: 'db', port: 65_535 }]);
});
