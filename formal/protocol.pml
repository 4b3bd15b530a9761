/*
 * The life of one id: submitted, logged, flushed, released, copied to Redis, read, through crashes and lost replies, beside
 * another engine that writes the same row. README.md says which step is which function.
 *
 * A version is a number; a higher one is newer. Whether it is a put or a delete does not matter here: a read that goes back
 * behind a delete is a resurrection, one that goes back behind a put a lost write, and both are a read that is too old.
 *
 * Each macro below is a break of the protocol; with it the check must fail.
 */
#define VERSIONS 3   /* writes in all, of both engines */
#define CRASHES 1
#define LOSSES 1     /* values that Redis evicts, and failovers */

/* What lasts. */
byte next = 1;               /* the next version */
byte logged = 0;             /* record in the log, 0: none */
byte row = 0;                /* SQL's row */
byte position = 0;           /* end of SQL's change log … */
byte change[VERSIONS + 1];   /* … and the version at each position */
byte acked = 0;              /* newest version acknowledged at 'wal' or 'stored' */

/* Redis: one value or marker, and the head. */
byte copy = 0;
bool marker = false;
byte confirmed = 0;
byte begun = 0;
byte waiting = 0;            /* positions confirmed before their turn, a bit each */
/* What a failover may come back to. */
byte oldCopy = 0; bool oldMarker = false; byte oldConfirmed = 0; byte oldBegun = 0; byte oldWaiting = 0;

/* What a crash forgets. */
bool alive = true;
byte submitted = 0;          /* newest version called for in this life */
byte pending = 0;
byte clean = 0;
byte flushing = 0;           /* version on its way to SQL */
bool committed = false;      /* … which has decided, and answers */
bool changed = false; byte answerRow = 0; byte answerAt = 0;
byte releasing = 0; bool releasedWon = false; bool ackAfter = false;
byte known = 0;              /* change log read up to here without a gap */
bool synced = true;
byte floor = 0;              /* what stands among the unconfirmed is complete above it */
byte newest = 0; byte newestAt = 0;   /* what stands there of this id */
byte telling = 0; byte tellingAt = 0; /* winner on its way to Redis */

/* A reader of SQL that promotes late, perhaps after its process has died. */
bool reading = false; byte readRow = 0; byte readKnown = 0;

byte crashes = 0;
byte losses = 0;
byte answer = 0;

#define MAX(a, b) ((a) > (b) -> (a) : (b))

inline remember(version, at) {
  if
  :: at > floor && version > newest -> newest = version; newestAt = MAX(at, newestAt)
  :: at > floor && version <= newest -> newestAt = MAX(at, newestAt)
  :: else -> skip
  fi
}

inline prune() {
  if
  :: confirmed > floor ->
     floor = confirmed;
     if
     :: newestAt <= floor -> newest = 0; newestAt = 0
     :: else -> skip
     fi
  :: else -> skip
  fi
}

/* A script in Redis: guarded write, and confirmation in turn. */
inline write(version, at, isMark, confirms) {
  if
  :: confirms && at > begun -> begun = at
  :: else -> skip
  fi;
  if
#ifdef GAP_FILLED_BY_ANYBODY
  :: copy == 0 && !isMark -> copy = version; marker = false
#else
  :: copy == 0 && !isMark && at >= begun -> copy = version; marker = false
#endif
#ifdef REDIS_TAKES_OLDER
  :: copy != 0 && version != copy -> copy = version; marker = isMark
#else
  :: copy != 0 && version > copy -> copy = version; marker = isMark
#endif
  :: else -> skip
  fi;
  if
  :: confirms -> waiting = waiting | (1 << at);
     do
     :: confirmed < VERSIONS && (waiting & (1 << (confirmed + 1))) != 0 -> confirmed++
     :: else -> break
     od
  :: else -> skip
  fi
}

inline forget() {
  alive = false;
  submitted = 0; pending = 0; clean = 0; flushing = 0; committed = false; changed = false;
  answerRow = 0; answerAt = 0; releasing = 0; releasedWon = false; ackAfter = false;
  known = 0; synced = false; floor = 0; newest = 0; newestAt = 0; telling = 0; tellingAt = 0
}

active proctype world() {
  do
  /* submit */
  :: atomic { alive && next <= VERSIONS ->
       pending = next; submitted = next; next++
#ifdef ACKNOWLEDGED_BEFORE_THE_COMMIT
       ; acked = pending
#endif
     }

  /* append: a group is committed, and acknowledged */
  :: atomic { alive && pending > logged -> logged = pending; acked = MAX(acked, pending) }

  /* flush: taken … */
  :: atomic { alive && flushing == 0 && releasing == 0 && pending != 0 -> flushing = pending
#ifdef RELEASED_BEFORE_STORED
       ; if
         :: logged != 0 && logged <= flushing -> logged = 0
         :: else -> skip
         fi
#endif
     }
  /* … decided by SQL, in one transaction … */
  :: atomic { flushing != 0 && !committed ->
       committed = true; changed = false;
#ifdef SQL_TAKES_OLDER
       if
       :: flushing != row -> row = flushing; position++; change[position] = row; changed = true
#else
       if
       :: flushing > row -> row = flushing; position++; change[position] = row; changed = true
#endif
       :: else -> skip
       fi;
       answerRow = row; answerAt = position
     }
  /* … and the answer is lost: the write is still pending, and goes once more … */
  :: atomic { alive && committed -> flushing = 0; committed = false }
  /* … or comes. */
  :: atomic { alive && committed ->
#ifndef OWN_COMMIT_NOT_REMEMBERED
       remember(answerRow, answerAt);
#endif
       if
       :: changed && answerAt == known + 1 -> known = answerAt
       :: else -> skip
       fi;
       if
       :: changed && telling == 0 && synced -> telling = flushing; tellingAt = answerAt
       :: else -> skip
       fi;
       releasing = flushing; releasedWon = (answerRow == flushing);
#ifdef STORED_BESIDE_AN_OLDER_RECORD
       acked = MAX(acked, flushing); ackAfter = false;
#else
       if
       :: logged != 0 && logged < flushing -> ackAfter = true
       :: else -> acked = MAX(acked, flushing); ackAfter = false
       fi;
#endif
       flushing = 0; committed = false
     }
  /* release: the log forgets, then the entry is clean, or leaves memory where it lost */
  :: atomic { alive && releasing != 0 ->
       if
       :: logged != 0 && logged <= releasing -> logged = 0
       :: else -> skip
       fi;
       if
       :: ackAfter -> acked = MAX(acked, releasing)
       :: else -> skip
       fi;
       if
       :: pending == releasing ->
          pending = 0;
          if
#ifdef OVERTAKEN_WRITE_KEPT_WHEN_RELEASED
          :: releasedWon -> clean = releasing
#else
          :: releasedWon && (known == 0 || change[known] <= releasing) -> clean = releasing
#endif
          :: else -> clean = 0
          fi
       :: else -> skip
       fi;
       releasing = 0; ackAfter = false
     }

  /* winners reach Redis, or not */
  :: atomic { alive && telling != 0 -> write(telling, tellingAt, false, true); telling = 0; tellingAt = 0 }
  :: atomic { alive && telling != 0 -> telling = 0; tellingAt = 0 }
  /* repair: a position that nobody is telling is marked */
  :: atomic { alive && synced && confirmed < known && (telling == 0 || tellingAt != confirmed + 1) ->
       write(change[confirmed + 1], confirmed + 1, true, true)
     }

  /* a read of SQL that promotes, later */
  :: atomic { alive && !reading && pending == 0 && row != 0 -> reading = true; readRow = row; readKnown = known }
  :: atomic { reading -> write(readRow, readKnown, false, false); reading = false }

  /* a read */
  :: atomic { alive ->
       if
       :: pending != 0 -> answer = pending
       :: pending == 0 && clean != 0 -> answer = clean
       :: (pending == 0 && clean == 0 && copy != 0 && !marker && synced
#ifndef ANSWER_OF_AN_OLDER_REDIS_JUDGED
          && confirmed >= floor
#endif
#ifndef OVERTAKEN_COPY_SERVED
          && copy >= newest
#endif
          ) -> answer = copy; clean = copy; prune()
       :: pending == 0 && clean == 0 -> answer = row; clean = row
       fi;
       /* Read your writes, and what was acknowledged in any life. */
       assert(answer >= submitted);
       assert(answer >= acked);
       /* What another engine committed, once it is known here. */
       assert(pending != 0 || known == 0 || answer >= change[known])
     }
  /* an answer of Redis from before what is known: it is looked up anew */
  :: atomic { alive && synced && confirmed < floor -> synced = false }
  :: atomic { alive && synced -> prune() }
  :: atomic { alive && !synced && known == position ->
#ifndef BELIEVED_WITHOUT_CATCHING_UP
       if
       :: confirmed < position -> newest = change[position]; newestAt = position
       :: else -> newest = 0; newestAt = 0
       fi;
#endif
       floor = confirmed; synced = true
     }
  :: atomic { alive && clean != 0 -> clean = 0 }

  /* another engine on the same archive, without Redis; this one follows the change log */
  :: atomic { next <= VERSIONS && next > row -> row = next; position++; change[position] = row; next++ }
  :: atomic { alive && known < position ->
       known++;
       remember(change[known], known);
       if
       :: clean != 0 && clean < change[known] -> clean = 0
       :: else -> skip
       fi
     }

  /* Redis loses a value, is remembered as it is now, comes back as it was */
  :: atomic { losses < LOSSES && copy != 0 -> losses++; copy = 0; marker = false }
  :: atomic { losses < LOSSES ->
       oldCopy = copy; oldMarker = marker; oldConfirmed = confirmed; oldBegun = begun; oldWaiting = waiting
     }
  :: atomic { losses < LOSSES && oldConfirmed <= confirmed ->
       losses++;
       copy = oldCopy; marker = oldMarker; confirmed = oldConfirmed; begun = oldBegun; waiting = oldWaiting
     }

  /* the process dies; the log is replayed */
  :: atomic { alive && crashes < CRASHES -> crashes++; forget() }
  :: atomic { !alive ->
       alive = true; pending = logged; known = position; floor = position;
       /* What was acknowledged is somewhere. */
       assert(MAX(logged, row) >= acked)
     }
  od
}
