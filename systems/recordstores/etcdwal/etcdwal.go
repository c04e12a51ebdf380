// Package etcdwal keeps records in etcd's write-ahead log the way that etcd's
// raft loop uses it: one goroutine takes everything that is pending and saves it
// with one call, hence one fdatasync.
package etcdwal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/debug"
	"sync"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

const (
	module = "go.etcd.io/etcd/server/v3"
	// folderName is the log's own folder: wal.Create wants to make it.
	folderName = "wal"
	// headerLen is what an entry carries before the payload: tenant, sequence.
	headerLen = 12
	// payloadLenMax keeps an entry well below the log's limit of a record.
	payloadLenMax = 8 << 20
	// batchBytesMax ends a batch; the rest waits for the next save.
	batchBytesMax = 4 << 20
	// queueLen bounds the appends that wait for the saver.
	queueLen = 4096
	// term is the only raft term: there is no election here.
	term = uint64(1)
)

// Version is the library's, from the build.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == module {
				return "etcd wal " + dep.Version
			}
		}
	}
	return "etcd wal, version unknown"
}

// Store is a record store over etcd's log. It implements recordserver.Store and
// recordserver.Batcher.
type Store struct {
	log   *wal.WAL
	queue chan *request
	saver chan struct{} // closed when the saver has ended

	mu     sync.RWMutex // held shared while sending to queue
	closed bool
}

// request is one caller's records and where their outcome goes.
type request struct {
	tenant   uint32
	payloads [][]byte
	results  []recordserver.Result
	done     chan struct{}
}

// saver is the state of the saving goroutine.
type saver struct {
	log     *wal.WAL
	index   uint64
	last    map[uint32]uint64
	failed  error
	batch   []*request
	entries []*raftpb.Entry
}

// Open opens or creates the store in dir and repairs a torn end.
func Open(dir string) (*Store, error) {
	state := &saver{last: make(map[uint32]uint64)}
	log, err := openLog(filepath.Join(dir, folderName), func(index uint64, tenant uint32, seq uint64, _ []byte) error {
		state.index, state.last[tenant] = index, seq
		return nil
	})
	if err != nil {
		return nil, err
	}
	state.log = log
	s := &Store{log: log, queue: make(chan *request, queueLen), saver: make(chan struct{})}
	go func() {
		defer close(s.saver)
		state.run(s.queue)
	}()
	return s, nil
}

// openLog opens the log at path, or creates it, and calls fn with its records.
func openLog(path string, fn func(index uint64, tenant uint32, seq uint64, payload []byte) error) (*wal.WAL, error) {
	quiet := zap.NewNop()
	if !wal.Exist(path) {
		log, err := wal.Create(quiet, path, nil)
		if err != nil {
			return nil, fmt.Errorf("create log: %w", err)
		}
		return log, nil
	}
	log, entries, err := readAll(quiet, path)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		// As etcd does: cut the torn record off, keep a copy beside it, once.
		if !wal.Repair(quiet, path) {
			return nil, fmt.Errorf("repair log: %w", err)
		}
		log, entries, err = readAll(quiet, path)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if len(e.Data) < headerLen {
			return nil, errors.Join(fmt.Errorf("entry %d: %d bytes", e.GetIndex(), len(e.Data)), log.Close())
		}
		tenant, seq := binary.LittleEndian.Uint32(e.Data), binary.LittleEndian.Uint64(e.Data[4:])
		if err := fn(e.GetIndex(), tenant, seq, e.Data[headerLen:]); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	return log, nil
}

func readAll(quiet *zap.Logger, path string) (*wal.WAL, []*raftpb.Entry, error) {
	log, err := wal.Open(quiet, path, &walpb.Snapshot{})
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	_, _, entries, err := log.ReadAll()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read log: %w", err), log.Close())
	}
	return log, entries, nil
}

// Append hands the record to the saver and waits until it is saved.
func (s *Store) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	var result [1]recordserver.Result
	s.AppendBatch(ctx, tenant, [][]byte{payload}, result[:])
	return result[0].Seq, result[0].Err
}

// AppendBatch hands the records to the saver and waits until they are saved.
func (s *Store) AppendBatch(_ context.Context, tenant uint32, payloads [][]byte, results []recordserver.Result) {
	for _, p := range payloads {
		if len(p) > payloadLenMax {
			refuse(results, recordserver.ErrTooLarge)
			return
		}
	}
	r := &request{tenant: tenant, payloads: payloads, results: results, done: make(chan struct{})}
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		refuse(results, fmt.Errorf("%w: closed", recordserver.ErrUnavailable))
		return
	}
	s.queue <- r
	s.mu.RUnlock()
	<-r.done
}

func refuse(results []recordserver.Result, err error) {
	for i := range results {
		results[i] = recordserver.Result{Err: err}
	}
}

// run saves what is pending, all of it together, until queue is closed.
func (s *saver) run(queue <-chan *request) {
	for r := range queue {
		s.batch = append(s.batch[:0], r)
		size := requestLen(r)
		for more := true; more && size < batchBytesMax; {
			select {
			case next, ok := <-queue:
				if more = ok; ok {
					s.batch = append(s.batch, next)
					size += requestLen(next)
				}
			default:
				more = false
			}
		}
		s.save()
		clear(s.batch)
	}
}

func requestLen(r *request) (n int) {
	for _, p := range r.payloads {
		n += headerLen + len(p)
	}
	return n
}

// save writes the batch and answers it.
func (s *saver) save() {
	if s.failed == nil {
		s.number()
		state := &raftpb.HardState{Term: new(term), Commit: new(s.index)}
		if err := s.log.Save(state, s.entries); err != nil {
			// The log may end in half an entry now; only recovery can tell.
			s.failed = fmt.Errorf("%w: save: %w", recordserver.ErrUnavailable, err)
		}
		clear(s.entries)
	}
	for _, r := range s.batch {
		if s.failed != nil {
			refuse(r.results, s.failed)
		}
		close(r.done)
	}
}

// number gives the batch's records their sequences and makes entries of them.
func (s *saver) number() {
	s.entries = s.entries[:0]
	for _, r := range s.batch {
		for i, payload := range r.payloads {
			s.index++
			s.last[r.tenant]++
			r.results[i] = recordserver.Result{Seq: s.last[r.tenant]}
			data := make([]byte, 0, headerLen+len(payload))
			data = binary.LittleEndian.AppendUint32(data, r.tenant)
			data = binary.LittleEndian.AppendUint64(data, s.last[r.tenant])
			s.entries = append(s.entries, &raftpb.Entry{
				Term: new(term), Index: new(s.index), Data: append(data, payload...),
			})
		}
	}
}

// Close waits for appends under way and closes the log.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.queue)
	s.mu.Unlock()
	<-s.saver
	return s.log.Close()
}

// Scan calls fn with every record in dir in the order of the log, while no store
// has it open. It holds the whole log in memory, as the library reads it.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error {
	path := filepath.Join(dir, folderName)
	if !wal.Exist(path) {
		return nil
	}
	log, err := openLog(path, func(_ uint64, tenant uint32, seq uint64, payload []byte) error {
		return fn(tenant, seq, payload)
	})
	if err != nil {
		return err
	}
	return log.Close()
}
