package wasmstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/nexuscore-labs/nexus/components/logframe"
	"github.com/nexuscore-labs/nexus/systems/recordserver"
	"github.com/nexuscore-labs/nexus/systems/recordstores/storetest"
)

var kind = storetest.Kind{
	Open: func(dir string) (recordserver.Store, error) { return Open(dir) },
	Scan: Scan,
}

func TestMain(m *testing.M) { storetest.Main(m, kind) }

func TestStore(t *testing.T) { storetest.Run(t, kind) }

// Without the sandbox it must be the same store.
func TestStoreNative(t *testing.T) {
	native := kind
	native.Open = func(dir string) (recordserver.Store, error) {
		return OpenWith(dir, Options{Framer: func(tenant uint32, p logframe.Policy, s logframe.State) (logframe.Framer, error) {
			return logframe.NewNative(tenant, p, s)
		}})
	}
	storetest.Run(t, native)
}

func event(timestamp uint64, text string) []byte {
	return append(binary.LittleEndian.AppendUint64([]byte{'N', 'X', 1, 0}, timestamp), text...)
}

// Refused records take no sequence, and what a tenant's rules depend on is
// found again after a restart.
func TestPolicySurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	options := Options{Policy: func(tenant uint32) logframe.Policy {
		return logframe.Policy{Schema: logframe.SchemaEvent, Encoding: logframe.EncodingText}
	}}
	seq := uint64(0)
	for round := range uint64(3) {
		s, err := OpenWith(dir, options)
		if err != nil {
			t.Fatal(err)
		}
		at := 100 * (round + 1)
		payloads := [][]byte{event(at, "good"), event(at-1, "late"), event(at, "\xff"), []byte("no event"), event(at+1, "good")}
		results := make([]recordserver.Result, len(payloads))
		s.AppendBatch(context.Background(), 4, payloads, results)
		for i, r := range results {
			if good := i == 0 || i == 4; good != (r.Err == nil) || !good && !errors.Is(r.Err, recordserver.ErrRejected) {
				t.Fatalf("round %d record %d: %+v", round, i, r)
			}
			if r.Err == nil {
				if seq++; r.Seq != seq {
					t.Fatalf("round %d record %d: sequence %d, want %d", round, i, r.Seq, seq)
				}
			}
		}
		if _, err := s.Append(context.Background(), 4, event(at, "late")); !errors.Is(err, recordserver.ErrRejected) {
			t.Fatalf("late record: error %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	n := uint64(0)
	if err := Scan(dir, func(tenant uint32, seq uint64, _ []byte) error {
		if n++; tenant != 4 || seq != n {
			return fmt.Errorf("tenant %d sequence %d after %d", tenant, seq, n-1)
		}
		return nil
	}); err != nil || n != seq {
		t.Fatalf("%d records, want %d, error %v", n, seq, err)
	}
}

// failingLog fails appends with err while it is set.
type failingLog struct {
	recordserver.Store
	err error
}

func (f *failingLog) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Store.Append(ctx, tenant, payload)
}

func TestLogFailures(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	log := &failingLog{Store: s.log}
	s.log = log
	ctx := context.Background()
	steps := []struct {
		tenant  uint32
		logErr  error
		wantSeq uint64 // 0: wantErr
		wantErr error
	}{
		{1, nil, 1, nil},
		{1, recordserver.ErrDiskFull, 0, recordserver.ErrDiskFull},
		{1, nil, 2, nil}, // the sequence was taken back
		{1, errors.New("maybe stored"), 0, recordserver.ErrUnavailable},
		{1, nil, 0, recordserver.ErrUnavailable}, // nothing more until it is opened again
		{2, nil, 1, nil},
	}
	for i, step := range steps {
		log.err = step.logErr
		seq, err := s.Append(ctx, step.tenant, []byte("record"))
		if seq != step.wantSeq || !errors.Is(err, step.wantErr) {
			t.Fatalf("step %d: sequence %d, error %v", i, seq, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
