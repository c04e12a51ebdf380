package feeds

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/surrealdb/surrealdb.go/pkg/models"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
	"github.com/nexuscore-labs/nexus/systems/cdc/surrealsource"
)

// BrokersVariable names a Kafka; without it a broker in this process serves.
const BrokersVariable = "KAFKA_BROKERS"

// Kafka is a broker for a feed.
type Kafka struct {
	Brokers []string
	// Name says which one it is.
	Name string
	fake *kfake.Cluster
}

// OpenKafka takes the Kafka that KAFKA_BROKERS names, or starts franz-go's
// in-process broker, which speaks the protocol and keeps topics in memory.
func OpenKafka(topic string) (*Kafka, error) {
	if named := os.Getenv(BrokersVariable); named != "" {
		return &Kafka{Brokers: strings.Split(named, ","), Name: "Kafka by " + BrokersVariable}, nil
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topic))
	if err != nil {
		return nil, fmt.Errorf("start the in-process Kafka broker: %w", err)
	}
	return &Kafka{Brokers: cluster.ListenAddrs(), Name: "franz-go's in-process broker", fake: cluster}, nil
}

// Close ends an in-process broker.
func (k *Kafka) Close() {
	if k.fake != nil {
		k.fake.Close()
	}
}

// OutboxDefinition makes the outbox of a table: what a writer puts there in the
// transaction of its change is published in order.
func OutboxDefinition(table string) string {
	return "DEFINE TABLE IF NOT EXISTS " + Outbox(table)
}

// Outbox is the name of a table's outbox.
func Outbox(table string) string { return table + "_outbox" }

// OutboxEntry is the statement that a writer adds to its transaction, behind the
// change of $record, with the record's new state. Ids are ordered by time, to the
// nanosecond: a ULID's order ends at the millisecond.
func OutboxEntry(table string) string {
	return fmt.Sprintf("CREATE type::record('%s', <string>time::nano(time::now()) + '-' + rand::string(8)) SET record = $record, after = $record.*", Outbox(table))
}

// message is what travels through Kafka.
type message struct {
	Key     string         `json:"key"`
	Delete  bool           `json:"delete,omitempty"`
	Vector  []float32      `json:"vector,omitempty"`
	Payload map[string]any `json:"payload,omitempty"`
}

// relayMax bounds the entries of one relayed batch.
const relayMax = 500

// Relay moves the outbox to Kafka: every interval, or at once while it is behind.
// An entry is deleted when the broker has it, so after a crash some are published
// again, which the sink bears.
func Relay(ctx context.Context, t Table, k *Kafka, topic string, interval time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0),
		kgo.AllowAutoTopicCreation(), kgo.ProducerBatchMaxBytes(8<<20))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	for ctx.Err() == nil {
		n, err := t.relay(ctx, client)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("relay the outbox of %s: %w", t.Name, err)
		}
		if n == relayMax {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(interval):
		}
	}
	return nil
}

type entry struct {
	ID     models.RecordID `json:"id"`
	Record models.RecordID `json:"record"`
	After  map[string]any  `json:"after"`
}

func (t Table) relay(ctx context.Context, client *kgo.Client) (int, error) {
	entries, err := query[[]entry](ctx, t.DB, fmt.Sprintf("SELECT * FROM %s ORDER BY id LIMIT %d", Outbox(t.Name), relayMax), nil)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	records, ids := make([]*kgo.Record, 0, len(entries)), make([]models.RecordID, 0, len(entries))
	for _, e := range entries {
		record, err := t.kafkaRecord(e)
		if err != nil {
			return 0, err
		}
		records, ids = append(records, record), append(ids, e.ID)
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return 0, fmt.Errorf("produce: %w", err)
	}
	_, err = query[any](ctx, t.DB, "DELETE $ids", map[string]any{"ids": ids})
	return len(entries), err
}

func (t Table) kafkaRecord(e entry) (*kgo.Record, error) {
	key, err := surrealsource.RecordKey(&e.Record)
	if err != nil {
		return nil, err
	}
	m := message{Key: key, Delete: len(e.After) == 0} // what is gone has no fields
	if !m.Delete {
		c, err := t.Records.ChangeAt(t.Collection, key, e.After)
		if err != nil {
			return nil, err
		}
		m.Delete, m.Vector, m.Payload = c.Delete, c.Vector, c.Payload
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the change of %s: %w", key, err)
	}
	return &kgo.Record{Key: []byte(key), Value: text}, nil
}

// Consume puts what the topic holds, in order. The sink's own queue is the
// back-pressure.
func Consume(ctx context.Context, t Table, k *Kafka, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.Brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchMinBytes(1))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	var position uint64
	for {
		fetched := client.PollFetches(ctx)
		if ctx.Err() != nil || fetched.IsClientClosed() {
			return nil
		}
		if err := fetchErr(fetched); err != nil {
			return fmt.Errorf("consume %s: %w", topic, err)
		}
		for records := fetched.RecordIter(); !records.Done(); {
			var m message
			if err := json.Unmarshal(records.Next().Value, &m); err != nil {
				return fmt.Errorf("decode a change of topic %s: %w", topic, err)
			}
			position++
			c := sink.Change{Position: position, Collection: t.Collection, Key: m.Key, Delete: m.Delete, Vector: m.Vector, Payload: m.Payload}
			if err := t.Put(ctx, c); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

func fetchErr(fetched kgo.Fetches) error {
	var errs []error
	for _, e := range fetched.Errors() {
		errs = append(errs, e.Err)
	}
	return errors.Join(errs...)
}
