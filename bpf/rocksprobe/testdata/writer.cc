// The second target: a program that writes to Debian's RocksDB as it is told, one
// command a line on standard input, and answers each with a line. The tests
// compile it; see writer_test.go.
//
//   put N BYTES      N single puts of the next keys, with values of so many bytes
//   batch N M        N batches of M puts
//   delete N         deletes of the last N keys
//   commit N M       N optimistic transactions of M puts, committed
//   rollback N M     the same, rolled back
//   savepoint N      N transactions: one put, a savepoint, a put, back to it, commit
//   conflict N       N transactions that lose to another write of their key
//   value TEXT       one put whose value is TEXT
//   large BYTES      one put with a value of so many bytes
//   table NAME N B   N puts under SurrealDB's keys of that table
//   threads T N B    T threads with N puts each
//   rate SECONDS R B puts under SurrealDB's keys at R a second, in turn of tables t0..t7
//   crash            a transaction with a put that is not committed, then SIGKILL
//   sequence         nothing but the answer
//
// The answer is "ok SEQUENCE", with the latest sequence number of the database.
#include <rocksdb/db.h>
#include <rocksdb/utilities/optimistic_transaction_db.h>
#include <rocksdb/utilities/transaction.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

using namespace rocksdb;

static OptimisticTransactionDB *db;
static std::atomic<long> next_key{0};
static WriteOptions lazy;

static void check(const Status &s, const char *doing)
{
	if (s.ok())
		return;
	std::cerr << doing << ": " << s.ToString() << std::endl;
	exit(1);
}

static std::string key(long n)
{
	char text[32];
	snprintf(text, sizeof text, "key-%012ld", n);
	return text;
}

static std::string surreal_key(const std::string &table, long n)
{
	std::string k("/*\0\0\0\1*\0\0\0\2*", 12);
	char id[32];
	snprintf(id, sizeof id, "%012ld", n);
	return k + table + std::string("\0*", 2) + id;
}

static void put(const std::string &k, const std::string &v)
{
	check(db->Put(lazy, k, v), "put");
}

static void transact(long n, long m, bool commit)
{
	for (long i = 0; i < n; i++) {
		Transaction *t = db->BeginTransaction(lazy);
		for (long j = 0; j < m; j++)
			check(t->Put(key(next_key++), "in a transaction"), "transaction's put");
		check(commit ? t->Commit() : t->Rollback(), "end of a transaction");
		delete t;
	}
}

static void savepoints(long n)
{
	for (long i = 0; i < n; i++) {
		Transaction *t = db->BeginTransaction(lazy);
		check(t->Put(key(next_key++), "kept"), "put");
		t->SetSavePoint();
		check(t->Put(key(next_key++), "taken back"), "put");
		check(t->RollbackToSavePoint(), "back to the savepoint");
		check(t->Commit(), "commit");
		delete t;
	}
}

static void conflicts(long n)
{
	for (long i = 0; i < n; i++) {
		std::string k = key(next_key++), value;
		Transaction *t = db->BeginTransaction(lazy);
		t->GetForUpdate(ReadOptions(), k, &value);
		check(t->Put(k, "loses"), "put");
		put(k, "wins");
		Status s = t->Commit();
		if (!s.IsBusy()) {
			std::cerr << "a conflict was not seen: " << s.ToString() << std::endl;
			exit(1);
		}
		delete t;
	}
}

static void crash()
{
	Transaction *t = db->BeginTransaction(lazy);
	check(t->Put(key(next_key++), "never committed"), "put");
	kill(getpid(), SIGKILL);
}

static void paced(double seconds, double rate, long bytes)
{
	auto start = std::chrono::steady_clock::now();
	std::string v(bytes, 'v'), tables[8];
	for (int i = 0; i < 8; i++)
		tables[i] = "t" + std::to_string(i);
	long total = seconds * rate;
	for (long i = 0; i < total; i++) {
		auto due = start + std::chrono::nanoseconds((long)(i * 1e9 / rate));
		while (std::chrono::steady_clock::now() < due)
			;
		put(surreal_key(tables[i % 8], i), v);
	}
}

static void batches(long n, long m)
{
	for (long i = 0; i < n; i++) {
		WriteBatch batch;
		for (long j = 0; j < m; j++)
			check(batch.Put(key(next_key++), "in a batch"), "batch's put");
		check(db->Write(lazy, &batch), "write");
	}
}

static bool run(std::istringstream &line, const std::string &command)
{
	long n = 0, m = 0, b = 0;
	std::string name;
	if (command == "put" && line >> n >> b) {
		for (long i = 0; i < n; i++)
			put(key(next_key++), std::string(b, 'v'));
	} else if (command == "batch" && line >> n >> m) {
		batches(n, m);
	} else if (command == "delete" && line >> n) {
		for (long i = 1; i <= n; i++)
			check(db->Delete(lazy, key(next_key - i)), "delete");
	} else if (command == "commit" && line >> n >> m) {
		transact(n, m, true);
	} else if (command == "rollback" && line >> n >> m) {
		transact(n, m, false);
	} else if (command == "savepoint" && line >> n) {
		savepoints(n);
	} else if (command == "conflict" && line >> n) {
		conflicts(n);
	} else if (command == "value" && line >> name) {
		put(key(next_key++), name);
	} else if (command == "large" && line >> b) {
		put(key(next_key++), std::string(b, 'l'));
	} else if (command == "table" && line >> name >> n >> b) {
		for (long i = 0; i < n; i++)
			put(surreal_key(name, next_key++), std::string(b, 't'));
	} else if (command == "threads" && line >> m >> n >> b) {
		std::vector<std::thread> threads;
		for (long i = 0; i < m; i++)
			threads.emplace_back([=] {
				for (long j = 0; j < n; j++)
					put(key(next_key++), std::string(b, 'v'));
			});
		for (auto &t : threads)
			t.join();
	} else if (command == "rate" && line >> m >> n >> b) {
		paced(m, n, b);
	} else if (command == "crash") {
		crash();
	} else if (command != "sequence") {
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		std::cerr << "usage: writer FOLDER" << std::endl;
		return 2;
	}
	Options options;
	options.create_if_missing = true;
	check(OptimisticTransactionDB::Open(options, argv[1], &db), "open");
	lazy.disableWAL = getenv("WRITER_WAL") == nullptr;
	std::string text;
	while (std::getline(std::cin, text)) {
		std::istringstream line(text);
		std::string command;
		line >> command;
		auto start = std::chrono::steady_clock::now();
		if (!run(line, command)) {
			std::cerr << "unknown command: " << text << std::endl;
			return 2;
		}
		auto took = std::chrono::steady_clock::now() - start;
		std::cout << "ok " << db->GetLatestSequenceNumber() << " "
			  << std::chrono::duration_cast<std::chrono::nanoseconds>(took).count()
			  << std::endl;
	}
	delete db;
	return 0;
}
