package crashtest

import (
	"context"
	"testing"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// childLog is a log with n records of tenant 3, the last one by last.
func childLog(t *testing.T, seed, n uint64, last []byte) string {
	t.Helper()
	dir := t.TempDir()
	log, err := seglog.Open(dir, killOptions())
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= n; seq++ {
		record := killPayload(seed, 3, seq)
		if seq == n && last != nil {
			record = last
		}
		if _, err := log.Append(context.Background(), 3, record); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What nobody heard of may be there as far as it could go unheard, and only if
// it is what the seed states.
func TestCheckChildCountsWhatNobodyHeard(t *testing.T) {
	const seed, records = 11, 10
	for name, c := range map[string]struct {
		acked, unheardMax    uint64
		last                 []byte
		phantom, wrong       uint64
		lost, unacknowledged uint64
	}{
		"all heard":                  {acked: 10},
		"one submitted":              {acked: 9, unacknowledged: 1},
		"three ahead of a pipe":      {acked: 7, phantom: 2, unacknowledged: 3},
		"three ahead, two unheard":   {acked: 7, unheardMax: 2, unacknowledged: 3},
		"three ahead, one unheard":   {acked: 7, unheardMax: 1, phantom: 1, unacknowledged: 3},
		"unheard and not the seed's": {acked: 7, unheardMax: 2, last: []byte("invented"), wrong: 1, unacknowledged: 3},
		"acknowledged and gone":      {acked: 12, lost: 2},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := CheckChild(childLog(t, seed, records, c.last), seed, Acks{3: c.acked}, c.unheardMax, name)
			if err != nil {
				t.Fatal(err)
			}
			if got.Phantom != c.phantom || got.Wrong != c.wrong || got.Lost != c.lost || got.Unacked != c.unacknowledged {
				t.Errorf("%+v", got)
			}
		})
	}
}
