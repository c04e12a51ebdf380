package day20

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/qdrant/go-client/qdrant"
	surrealdb "github.com/surrealdb/surrealdb.go"
	"github.com/surrealdb/surrealdb.go/pkg/models"

	"github.com/nexuscore-labs/nexus/systems/cdc/qdranttarget"
	"github.com/nexuscore-labs/nexus/systems/surreal"
	"github.com/nexuscore-labs/nexus/systems/vectorstore"
	"github.com/nexuscore-labs/nexus/systems/vectorstore/qdrantserver"
)

// Names in both stores. A store by URL is shared by trials, so each has a
// database and a collection of its own.
const (
	namespace = "nexus_day20"
	table     = "records"
	fieldV    = "v"
	fieldN    = "n"
)

// stores are the source and the target of a trial.
type stores struct {
	dir     string
	surreal *surreal.Server
	db      *surrealdb.DB
	qdrant  *qdrantserver.Endpoint
	client  *qdrant.Client
}

// trialName is the database's and the collection's name: of the trial's folder.
func trialName(dir string) string {
	var name strings.Builder
	name.WriteString("t")
	for _, c := range filepath.Base(filepath.Dir(dir)) + filepath.Base(dir) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			name.WriteRune(c)
		}
	}
	return name.String()[:min(name.Len(), 60)]
}

// openStores starts both, on data that is in dir or will be.
func openStores(ctx context.Context, dir string) (*stores, error) {
	s := &stores{dir: dir}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stores) open(ctx context.Context) error {
	for _, name := range []string{"surreal", "qdrant"} {
		if err := os.MkdirAll(filepath.Join(s.dir, name), 0o755); err != nil {
			return fmt.Errorf("make the stores' folders: %w", err)
		}
	}
	var err error
	if s.surreal, err = surreal.Start(ctx, surreal.Options{Dir: filepath.Join(s.dir, "surreal")}); err != nil {
		return err
	}
	if s.db, err = s.surreal.Connect(ctx, namespace, trialName(s.dir)); err != nil {
		return err
	}
	if s.qdrant, err = qdrantserver.Find(ctx, filepath.Join(s.dir, "qdrant"), vectorstore.Options{}); err != nil {
		return err
	}
	if s.client, err = qdranttarget.Dial(s.qdrant.Config.Host, s.qdrant.Config.Port, s.qdrant.Config.APIKey); err != nil {
		return err
	}
	_, err = surrealdb.Query[any](ctx, s.db, "DEFINE TABLE IF NOT EXISTS "+table, nil)
	return err
}

func (s *stores) makeCollection(ctx context.Context, dim int) error {
	params := &qdrant.VectorParams{Size: uint64(dim), Distance: qdrant.Distance_Dot}
	err := s.client.CreateCollection(ctx, &qdrant.CreateCollection{CollectionName: trialName(s.dir), VectorsConfig: qdrant.NewVectorsConfig(params)})
	if err != nil {
		return fmt.Errorf("make the collection: %w", err)
	}
	return nil
}

func (s *stores) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	if s.qdrant != nil {
		errs = append(errs, s.qdrant.Close())
	}
	if s.db != nil {
		_ = s.db.Close(context.Background()) // the server goes anyway
	}
	if s.surreal != nil {
		errs = append(errs, s.surreal.Stop())
	}
	return errors.Join(errs...)
}

// readBack opens what a contender left and reads all of it.
func readBack(ctx context.Context, dir string) (records, points map[uint64]stored, err error) {
	s, err := openStores(ctx, dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open what the contender left: %w", err)
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if records, err = s.records(ctx); err != nil {
		return nil, nil, err
	}
	points, err = s.points(ctx)
	return records, points, err
}

const pageLen = 200

func (s *stores) records(ctx context.Context) (map[uint64]stored, error) {
	out := map[uint64]stored{}
	for start := 0; ; start += pageLen {
		text := fmt.Sprintf("SELECT id, %s, %s FROM %s ORDER BY id LIMIT %d START %d", fieldN, fieldV, table, pageLen, start)
		page, err := surrealdb.Query[[]struct {
			ID models.RecordID `json:"id"`
			N  uint64          `json:"n"`
			V  []any           `json:"v"`
		}](ctx, s.db, text, nil)
		if err != nil {
			return nil, fmt.Errorf("read the source back: %w", err)
		}
		for _, r := range (*page)[0].Result {
			id, isNumber := r.ID.ID.(uint64)
			if !isNumber {
				return nil, fmt.Errorf("read the source back: an id is a %T", r.ID.ID)
			}
			v := make([]float32, len(r.V))
			for i, x := range r.V {
				switch x := x.(type) { // the client takes the shortest that holds the value
				case float32:
					v[i] = x
				case float64:
					v[i] = float32(x)
				default:
					return nil, fmt.Errorf("read the source back: an element is a %T", x)
				}
			}
			out[id] = stored{r.N, v}
		}
		if len((*page)[0].Result) < pageLen {
			return out, nil
		}
	}
}

func (s *stores) points(ctx context.Context) (map[uint64]stored, error) {
	out := map[uint64]stored{}
	limit, from := uint32(pageLen), (*qdrant.PointId)(nil)
	for {
		page, next, err := s.client.ScrollAndOffset(ctx, &qdrant.ScrollPoints{CollectionName: trialName(s.dir), Limit: &limit, Offset: from,
			WithPayload: qdrant.NewWithPayload(true), WithVectors: qdrant.NewWithVectors(true)})
		if err != nil {
			return nil, fmt.Errorf("read the vector store back: %w", err)
		}
		for _, p := range page {
			key := p.GetPayload()[qdranttarget.FieldKey].GetStringValue()
			id, err := strconv.ParseUint(strings.TrimPrefix(key, table+":i:"), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read the vector store back: point %s has the key %q", p.GetId(), key)
			}
			vector := p.GetVectors().GetVector()
			data := vector.GetData() //lint:ignore SA1019 what older servers fill
			if dense := vector.GetDense(); dense != nil {
				data = dense.GetData()
			}
			out[id] = stored{uint64(p.GetPayload()[fieldN].GetIntegerValue()), data}
		}
		if next == nil {
			return out, nil
		}
		from = next
	}
}
