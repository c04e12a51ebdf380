package seglog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// TestAppendReadReopen is the whole life of a log on the real file system,
// over the ring and over pwrite.
func TestAppendReadReopen(t *testing.T) {
	for name, dirOptions := range dirKinds {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			const tenants, each = 7, 60
			l := openTest(t, dir, dirOptions, Options{SegmentBytes: 256 << 10, BatchBytes: 64 << 10})
			var wg sync.WaitGroup
			for tenant := range uint32(tenants) {
				wg.Go(func() {
					for i := uint64(1); i <= each; i++ {
						seq, err := l.Append(context.Background(), tenant, testPayload(tenant, i))
						if err != nil || seq != i {
							t.Errorf("append %d of tenant %d: sequence %d, error %v", i, tenant, seq, err)
							return
						}
					}
				})
			}
			wg.Wait()
			checkAll(t, l, tenants, each)
			closeTest(t, l)
			l = openTest(t, dir, dirOptions, Options{SegmentBytes: 256 << 10, BatchBytes: 64 << 10})
			checkAll(t, l, tenants, each)
			if got := l.Recovery(); got.Records != tenants*each || got.TornAt != "" {
				t.Errorf("recovery found %+v", got)
			}
			seq, err := l.Append(context.Background(), 3, testPayload(3, each+1))
			if err != nil || seq != each+1 {
				t.Errorf("append after reopening: sequence %d, error %v", seq, err)
			}
			closeTest(t, l)
		})
	}
}

var dirKinds = map[string]DirOptions{
	"ring":     {},
	"linked":   {Linked: true},
	"buffered": {Buffered: true, Reserve: true},
	"posix":    {Posix: true},
}

func openTest(t testing.TB, path string, d DirOptions, o Options) *Log {
	t.Helper()
	dev, err := OpenDir(path, d)
	if err != nil {
		t.Fatal(err)
	}
	l, err := OpenDevice(dev, o)
	if err != nil {
		_ = dev.Close()
		t.Fatal(err)
	}
	l.owned = dev
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func closeTest(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// testPayload is what the tenant's record must hold: 0 to about 3 KiB.
func testPayload(tenant uint32, seq uint64) []byte {
	n := int((uint64(tenant)*7919 + seq*104729) % 3001)
	p := fmt.Appendf(nil, "%d/%d:", tenant, seq)
	for len(p) < n {
		p = append(p, byte(len(p)*int(seq+1)+int(tenant)))
	}
	return p
}

func checkAll(t *testing.T, l *Log, tenants uint32, each uint64) {
	t.Helper()
	for tenant := range tenants {
		for seq := uint64(1); seq <= each; seq++ {
			got, err := l.Read(tenant, seq)
			if err != nil || string(got) != string(testPayload(tenant, seq)) {
				t.Fatalf("tenant %d sequence %d: %d bytes, error %v", tenant, seq, len(got), err)
			}
		}
		if _, err := l.Read(tenant, each+1); !errors.Is(err, ErrNotFound) {
			t.Fatalf("read behind the end: %v", err)
		}
	}
}
