// Package jetstream keeps records in NATS JetStream: a server embedded in this
// process, its file store syncing every message before it acknowledges, one
// stream with a subject per tenant, asynchronous publishing over an in-process
// connection with each message's own acknowledgement awaited.
package jetstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

const (
	streamName    = "RECORDS"
	subjectPrefix = "records."
	// seqLen is the record's sequence, carried before the payload: JetStream
	// numbers a stream, not its subjects.
	seqLen = 8
	// payloadLenMax is the server's limit of a message less the sequence.
	payloadLenMax = 8<<20 - seqLen
	// pendingMax bounds messages that wait for their acknowledgement.
	pendingMax   = 16 << 10
	startTimeout = 30 * time.Second
	ackTimeout   = 30 * time.Second
	// scanAhead is how many messages a scan asks for at a time.
	scanAhead = 4096
)

// Version is the embedded server's.
func Version() string { return "nats-server " + server.VERSION }

// Store is a record store over an embedded server. It implements
// recordserver.Store and recordserver.Batcher.
type Store struct {
	server *server.Server
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream

	mu     sync.RWMutex // held shared by appends
	closed bool

	tenantsMu sync.Mutex
	tenants   map[uint32]*tenant
}

// tenant numbers one tenant's records. Its lock is held while they are handed
// to the connection, which keeps their order, not until they are acknowledged.
type tenant struct {
	mu      sync.Mutex
	subject string
	known   bool // last is what the stream holds
	last    uint64
}

// Open starts a server on dir.
func Open(dir string) (*Store, error) {
	ns, err := startServer(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{server: ns, tenants: make(map[uint32]*tenant)}
	if err := s.connect(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func startServer(dir string) (*server.Server, error) {
	ns, err := server.NewServer(&server.Options{
		ServerName:             "records",
		DontListen:             true,
		NoLog:                  true,
		NoSigs:                 true,
		NoSystemAccount:        true,
		DisableJetStreamBanner: true,
		JetStream:              true,
		StoreDir:               dir,
		SyncAlways:             true,
		MaxPayload:             payloadLenMax + seqLen,
	})
	if err != nil {
		return nil, fmt.Errorf("make nats server: %w", err)
	}
	go ns.Start()
	if !ns.ReadyForConnections(startTimeout) {
		ns.Shutdown()
		ns.WaitForShutdown()
		return nil, fmt.Errorf("nats server not ready after %v", startTimeout)
	}
	return ns, nil
}

func (s *Store) connect() (err error) {
	s.conn, err = nats.Connect("", nats.InProcessServer(s.server), nats.Name("records"))
	if err != nil {
		return fmt.Errorf("connect to embedded server: %w", err)
	}
	s.js, err = jetstream.New(s.conn,
		jetstream.WithPublishAsyncMaxPending(pendingMax), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return fmt.Errorf("jetstream: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s.stream, err = s.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:     streamName,
		Subjects: []string{subjectPrefix + "*"},
		Storage:  jetstream.FileStorage,
		Replicas: 1,
		MaxBytes: -1,
		Discard:  jetstream.DiscardNew,
	})
	if err != nil {
		return fmt.Errorf("create stream: %w", err)
	}
	return nil
}

// Append publishes the record and waits for its acknowledgement.
func (s *Store) Append(ctx context.Context, tenant uint32, payload []byte) (uint64, error) {
	var result [1]recordserver.Result
	s.AppendBatch(ctx, tenant, [][]byte{payload}, result[:])
	return result[0].Seq, result[0].Err
}

// AppendBatch publishes the records and waits for all acknowledgements.
func (s *Store) AppendBatch(ctx context.Context, id uint32, payloads [][]byte, results []recordserver.Result) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for i := range results {
		results[i] = recordserver.Result{Err: fmt.Errorf("%w: not published", recordserver.ErrUnavailable)}
	}
	if s.closed {
		return
	}
	t := s.tenant(id)
	acks := make([]jetstream.PubAckFuture, len(payloads))
	if err := s.publish(ctx, t, payloads, results, acks); err != nil {
		for i, ack := range acks {
			if ack == nil {
				results[i] = recordserver.Result{Err: err}
			}
		}
	}
	for i, ack := range acks {
		if ack == nil {
			continue
		}
		if err := awaitAck(ctx, ack); err != nil {
			results[i] = recordserver.Result{Err: err}
			// What followed it may have been stored under a later number.
			t.mu.Lock()
			t.known = false
			t.mu.Unlock()
		}
	}
}

func (s *Store) tenant(id uint32) *tenant {
	s.tenantsMu.Lock()
	defer s.tenantsMu.Unlock()
	t := s.tenants[id]
	if t == nil {
		t = &tenant{subject: subjectPrefix + strconv.FormatUint(uint64(id), 10)}
		s.tenants[id] = t
	}
	return t
}

// publish numbers the records and hands them to the connection in order.
func (s *Store) publish(ctx context.Context, t *tenant, payloads [][]byte, results []recordserver.Result, acks []jetstream.PubAckFuture) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		last, err := s.lastSeq(ctx, t.subject)
		if err != nil {
			return err
		}
		t.last, t.known = last, true
	}
	for i, payload := range payloads {
		if len(payload) > payloadLenMax {
			results[i] = recordserver.Result{Err: recordserver.ErrTooLarge}
			continue
		}
		message := make([]byte, 0, seqLen+len(payload))
		message = binary.LittleEndian.AppendUint64(message, t.last+1)
		ack, err := s.js.PublishAsync(t.subject, append(message, payload...))
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		t.last++
		acks[i], results[i] = ack, recordserver.Result{Seq: t.last}
	}
	return nil
}

func (s *Store) lastSeq(ctx context.Context, subject string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	message, err := s.stream.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find last sequence of %s: %w", subject, err)
	}
	if len(message.Data) < seqLen {
		return 0, fmt.Errorf("last message of %s: %d bytes", subject, len(message.Data))
	}
	return binary.LittleEndian.Uint64(message.Data), nil
}

func awaitAck(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return fmt.Errorf("publish: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("publish: %w", ctx.Err())
	}
}

// Close waits for appends under way and stops the server.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.stop()
	}
	return nil
}

func (s *Store) stop() {
	if s.conn != nil {
		s.conn.Close()
	}
	s.server.Shutdown()
	s.server.WaitForShutdown()
}

// Scan calls fn with every record in dir in the order of the stream, while no
// store has it open. It reads through the server, as any client would.
func Scan(dir string, fn func(tenant uint32, seq uint64, payload []byte) error) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	info, err := s.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	if info.State.Msgs == 0 {
		return nil
	}
	consumer, err := s.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(scanAhead))
	if err != nil {
		return fmt.Errorf("scan: %w", err)
	}
	defer messages.Stop()
	for at := uint64(0); at < info.State.LastSeq; {
		message, err := messages.Next(jetstream.NextMaxWait(startTimeout))
		if err != nil {
			return fmt.Errorf("scan after message %d of %d: %w", at, info.State.LastSeq, err)
		}
		meta, err := message.Metadata()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		at = meta.Sequence.Stream
		data := message.Data()
		tenant, err := strconv.ParseUint(strings.TrimPrefix(message.Subject(), subjectPrefix), 10, 32)
		if err != nil || len(data) < seqLen {
			return fmt.Errorf("message %d: subject %q, %d bytes", at, message.Subject(), len(data))
		}
		if err := fn(uint32(tenant), binary.LittleEndian.Uint64(data), data[seqLen:]); err != nil {
			return err
		}
	}
	return nil
}
