import ControlInterface
import LinuxSystem
import TDXStatusCodes
import Testing

@testable import TDXControl

@Suite struct `What people read` {
    @Test func `domains line up under their titles, and emulated ones are labelled`() {
        let text = render(
            [.sample("web1"), .sample("a-longer-name", state: .failed, backend: .tdx, keyID: nil)], .plain)
        #expect(
            text == """
                NAME           STATE     MEMORY   PRIVATE  SHARED  RESIDENT  KEY  HOLDER  BACKEND
                web1           runnable   1 GiB  1020 MiB   4 MiB     5 MiB    3    4711  guest_memfd (emulated)
                a-longer-name  failed     1 GiB  1020 MiB   4 MiB     5 MiB    –    4711  tdx

                2 TDs

                """)
    }

    @Test func `the backend that all have is named once, and rows of ordinary names fit in 80 columns`() {
        let text = render([.sample("web1"), .sample("production-db-17")], .plain)
        #expect(text.hasSuffix("\n\n2 TDs, backend guest_memfd (emulated)\n"))
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 }, "\(text)")
        #expect(!text.contains("CONVERTING"))
        var busy = TrustDomain.sample("busy")
        busy.convertingBytes = 4096
        #expect(render([busy], .plain).contains("CONVERTING"))
    }

    @Test func `columns can be named, and titles left out`() {
        #expect(
            render([.sample("a"), .sample("bb")], columns: [.key, .name], hasLegend: false, .plain) == "3  a\n3  bb\n")
        #expect(render([.sample("a")], columns: [.owner, .id], .plain).hasPrefix("OWNER  ID\n 1000  0011"))
        #expect(render([TrustDomain](), hasLegend: false, .plain) == "")
        // Every column of every state has a cell and an order.
        for column in DomainColumn.allCases {
            #expect(!column.cell(.sample("a")).text.isEmpty)
            #expect(column.precedes(.sample("a"), .sample("a")) == nil)
        }
    }

    @Test func `an end is one line`() {
        #expect(
            summary(of: .sample(), .plain)
                == "web1: ended, 1 GiB given back in 41.3 ms, all proven [guest_memfd (emulated)]\n")
        #expect(
            summary(of: .sample(holds: false), .plain)
                == "web1: INCOMPLETE: not proven: key-id; “tdxctl certificate show web1” has more\n")
        #expect(summary(of: .sample(failure: "EIO"), .plain).hasPrefix("web1: FAILED: EIO; "))
    }

    @Test func `a map is a strip of cells, a line for each piece of memory`() {
        let map = ManagerInterface.Map.Reply(
            name: "a", backend: .memfd,
            runs: [
                MemoryRun(gpa: 0, bytes: 2 << 20, attribute: .private),
                MemoryRun(gpa: 2 << 20, bytes: 4096, attribute: .shared),
                MemoryRun(gpa: (2 << 20) + 4096, bytes: (1 << 20) - 4096, attribute: .private),
                MemoryRun(gpa: 4 << 30, bytes: 8192, attribute: .convertingToShared),
            ])
        let text = renderStrip(map, .plain)
        let row = String(repeating: "#", count: 64)
        #expect(
            text == """
                0x0000000000  \(row)
                0x0000080000  \(row)
                0x0000100000  \(row)
                0x0000180000  \(row)
                0x0000200000  +\(row.dropFirst())
                0x0000280000  \(row)
                0x0100000000  ~
                # private  . shared  ~ converting  + several; a cell is 8 KiB
                4 runs: 2.9 MiB private, 4 KiB shared, 8 KiB converting_to_shared [memfd (emulated)]

                """)
        // A server may send any numbers.
        for run in [
            MemoryRun(gpa: .max, bytes: .max, attribute: .shared), MemoryRun(gpa: 0, bytes: .max, attribute: .private),
            MemoryRun(gpa: 0, bytes: 0, attribute: .private),
        ] {
            let odd = ManagerInterface.Map.Reply(name: "a", backend: .memfd, runs: [run, run])
            #expect(renderStrip(odd, .plain).count < 100_000)
        }
        #expect(
            renderStrip(ManagerInterface.Map.Reply(name: "a", backend: .tdx, runs: []), .plain)
                == "0 runs: no memory [tdx]\n")
    }

    @Test func `no domains are said to be none`() {
        #expect(render([TrustDomain](), .plain) == "There are no TDs.\n")
    }

    @Test func `one domain is shown in full`() {
        #expect(
            render(.sample("web1", reason: "holder died"), .plain) == """
                Name          web1
                Id            00112233445566778899aabbccddeeff
                State         runnable: holder died
                Backend       guest_memfd (emulated: the TDX module is software, the memory is real)
                Memory        1 GiB
                  private     1020 MiB
                  shared      4 MiB
                  converting  0 B
                Resident      5 MiB (private 5 MiB, shared 0 B)
                vCPUs         2
                Key id        3 (emulated)
                Holder        pid 4711
                Firmware      /usr/share/ovmf/OVMF.fd
                MRTD          0123456789abcdef0123456789abcdef0123456789abcdef
                              0123456789abcdef0123456789abcdef0123456789abcdef
                Created       2026-01-02T03:04:05.678Z
                Owner         uid 1000

                """)
    }

    @Test func `a NUMA policy is shown with what it is in force for, and why not for the rest`() {
        func numaLines(_ numa: NUMAPlacement) -> String {
            var domain = TrustDomain.sample("web1")
            domain.numa = numa
            return render(domain, .plain).split(separator: "\n").filter {
                $0.hasPrefix("NUMA") || $0.contains("not applied")
            }.joined(separator: "\n")
        }
        #expect(
            numaLines(
                .init(policy: .interleave, nodes: [0, 1], privateApplied: true, sharedApplied: true, reason: nil))
                == "NUMA          interleave 0-1: private and shared memory")
        #expect(
            numaLines(
                .init(policy: .bind, nodes: [2], privateApplied: false, sharedApplied: true, reason: "private: no"))
                == "NUMA          bind 2: shared memory\n              not applied to private: no")
        #expect(
            numaLines(.init(policy: .bind, nodes: [2], privateApplied: false, sharedApplied: false, reason: "x"))
                .hasPrefix("NUMA          bind 2: no memory\n"))
    }

    @Test func `a certificate shows phases, proofs and the verdict`() {
        #expect(
            render(TeardownCertificate.sample(), .plain) == """
                Teardown certificate of web1
                  Id        00112233445566778899aabbccddeeff
                  Backend   guest_memfd (emulated: the TDX module is software, the memory is real)
                  Policy    terminate-first
                  Path      dynamic-removal
                  Holder    ended in order
                  Released  1 GiB of a TD of 1 GiB
                  Key id    3 (emulated)
                  Began     2026-01-02T03:04:05.678Z
                  Took      41.3 ms

                  PHASE       TIME  BYTES  CALLS  DETAIL
                  quiesce    41 µs      –      –
                  release  38.5 ms  1 GiB     64  4 shards

                  PROOF   HOLDS  EVIDENCE
                  memory  yes    cachestat: 0 pages
                  key-id  yes    key id 3 is free

                COMPLETE: every proof holds; nothing of the TD is left on this host.

                """)
    }

    @Test func `a certificate with a proof that does not hold is incomplete`() {
        let text = render(TeardownCertificate.sample(holds: false), .plain)
        #expect(text.hasSuffix("\nINCOMPLETE: 1 of 2 proofs do not hold.\n"))
        #expect(text.contains("key-id  NO     key id 3 is draining\n"))
        let failed = render(TeardownCertificate.sample(failure: "punching failed"), .plain)
        #expect(failed.hasSuffix("Failure: punching failed\nINCOMPLETE: every proof holds, but the teardown failed.\n"))
    }

    @Test func `certificates are listed with their verdicts`() {
        let text = render([.init(.sample()), .init(.sample(holds: false))], .plain)
        #expect(
            text == """
                NAME  ID                                BEGAN                        TOOK  RELEASED  PATH             VERDICT     BACKEND
                web1  00112233445566778899aabbccddeeff  2026-01-02T03:04:05.678Z  41.3 ms     1 GiB  dynamic-removal  complete    guest_memfd (emulated)
                web1  00112233445566778899aabbccddeeff  2026-01-02T03:04:05.678Z  41.3 ms     1 GiB  dynamic-removal  INCOMPLETE  guest_memfd (emulated)

                """)
        #expect(render([CertificateSummary](), .plain) == "There are no certificates.\n")
    }

    @Test func `key ids are counted, and each that is taken says by whom`() {
        let keys = ManagerInterface.GetKeys.Reply(
            backend: .memfd, capacity: 4,
            keys: [
                KeyHolding(keyID: 32, use: .inUse, name: "web1", id: "aa"),
                KeyHolding(keyID: 33, use: .draining, name: nil, id: "bb"),
            ])
        #expect(
            render(keys, .plain) == """
                KEY  USE       NAME  ID
                 32  in use    web1  aa
                 33  draining  –     bb
                4 key ids: 2 free, 1 in use, 1 draining [memfd (emulated)]

                """)
        let none = ManagerInterface.GetKeys.Reply(backend: .tdx, capacity: 1, keys: [])
        #expect(render(none, .plain) == "1 key id: 1 free, 0 in use [tdx]\n")
        let unknown = ManagerInterface.GetKeys.Reply(backend: .tdx, capacity: nil, keys: [])
        #expect(unknown.free == nil)
        #expect(render(unknown, .plain) == "key ids, how many there are is not known: 0 in use [tdx]\n")
    }

    @Test func `the inventory says what is counted by page and what whole, and why`() {
        let known = InventoryDomain(
            name: "web1", id: "aa", state: .runnable, backend: .memfd, source: .map, reason: nil, memoryBytes: 64 << 20,
            privateBytes: 60 << 20, convertingBytes: 2 << 20, sequence: 7, ranges: 2)
        let whole = InventoryDomain(
            name: "db7", id: "bb", state: .failed, backend: .memfd, source: .whole,
            reason: "not proven back: holder process 7 was killed by SIGKILL", memoryBytes: 1 << 30,
            privateBytes: 1 << 30, convertingBytes: 0)
        var total = InventoryTotal(backend: .memfd)
        for domain in [known, whole] { total.add(domain, wantsRanges: true) }
        #expect(
            render([known, whole], total, .plain) == """
                NAME  STATE     MEMORY  PRIVATE  CONVERTING  COUNTED  BACKEND
                web1  runnable  64 MiB   60 MiB       2 MiB  by page  memfd (emulated)
                db7   failed     1 GiB    1 GiB         0 B  WHOLE    memfd (emulated)
                db7: not proven back: holder process 7 was killed by SIGKILL
                2 TDs: 1 GiB private, 2 MiB converting, 2 ranges; 1 TD counted whole; 1 TD without ranges [memfd (emulated)]

                """)
        let runs = [
            MemoryRun(gpa: 0, bytes: 60 << 20, attribute: .private),
            MemoryRun(gpa: 62 << 20, bytes: 2 << 20, attribute: .convertingToShared),
        ]
        let first = ManagerInterface.Inventory.Reply(
            domains: [known], ranges: [InventoryRanges(id: "aa", runs: [runs[0]])])
        #expect(
            renderParts(of: first, names: ["aa": "web1"], .plain) == """
                web1 (runnable): 60 MiB private, 2 MiB converting of 64 MiB, 2 ranges as of change 7 [memfd (emulated)]
                  0x0000000000–0x0003c00000  60 MiB  private

                """)
        let second = ManagerInterface.Inventory.Reply(
            domains: [whole],
            ranges: [InventoryRanges(id: "aa", runs: [runs[1]], cut: "the TD has ended meanwhile")], total: total)
        #expect(
            renderParts(of: second, names: ["aa": "web1", "bb": "db7"], .plain) == """
                  0x0003e00000–0x0004000000  2 MiB  converting_to_shared
                  web1: no further ranges: the TD has ended meanwhile
                db7 (failed): 1 GiB private, 0 B converting of 1 GiB [memfd (emulated)]
                  counted whole
                  not proven back: holder process 7 was killed by SIGKILL

                """)
    }

    @Test func `conversions are shown by direction, with the hottest blocks, the last ones and storms`() {
        let none = ValueDistribution(median: 0, percentile90: 0, percentile99: 0, maximum: 0)
        func direction(_ side: MemorySide, _ count: UInt64, _ times: ValueDistribution) -> ConversionDirection {
            ConversionDirection(
                to: side, count: count, changedBytes: count << 21, discardedBytes: 0, failures: count / 2, cancelled: 0,
                merged: 1,
                sizeBytes: ValueDistribution(
                    median: 4096, percentile90: 2 << 20, percentile99: 2 << 20, maximum: 2 << 20), microseconds: times)
        }
        func reply(
            _ directions: [ConversionDirection], since: String? = nil, _ conversions: [ConversionAccount] = []
        ) -> ManagerInterface.Conversions.Reply {
            ManagerInterface.Conversions.Reply(
                name: "web1", backend: .memfd,
                HolderInterface.Conversions.Reply(
                    directions: directions,
                    hottest: [ConversionHotBlock(gpa: 2 << 20, bytes: 2 << 20, conversions: 2)],
                    storm: ConversionStorm(
                        conversions: 1, windowMilliseconds: 1000, storms: 1, since: since),
                    conversions: conversions))
        }
        let empty = reply([direction(.private, 0, none), direction(.shared, 0, none)])
        #expect(render(empty, .plain) == "Nothing was converted since the TD was made. [memfd (emulated)]\n")
        let failed = ConversionAccount(
            number: 2, endedAt: "2026-01-02T03:04:05.678Z", gpa: 2 << 20, bytes: 4096, to: .shared, origin: .guest,
            requests: 3, changedBytes: 0, discardedBytes: 0, microseconds: 41, outcome: .failed, doneBytes: 0,
            reason: "no")
        let times = ValueDistribution(median: 41, percentile90: 52, percentile99: 1200, maximum: 1200)
        let found = reply(
            [direction(.private, 0, none), direction(.shared, 2, times)], since: "2026-01-02T03:04:05.000Z", [failed])
        #expect(
            render(found, .plain) == """
                TO       COUNT  CHANGED  DISCARDED  FAILED  CANCELLED  MERGED        MEDIAN   90 %     99 %     MOST
                private      0      0 B        0 B       0          0       1  size       –      –        –        –
                                                                               time       –      –        –        –
                shared       2    4 MiB        0 B       1          0       1  size   4 KiB  2 MiB    2 MiB    2 MiB
                                                                               time   41 µs  52 µs  1.20 ms  1.20 ms

                HOTTEST       END           CONVERSIONS
                0x0000200000  0x0000400000            2

                NO  ENDED                     START          SIZE  TO      BY     REQUESTS  DISCARDED   TOOK  OUTCOME
                 2  2026-01-02T03:04:05.678Z  0x0000200000  4 KiB  shared  guest         3        0 B  41 µs  FAILED: no

                STORM since 2026-01-02T03:04:05.000Z; 1 storm since the TD was made (more than 1 in 1000 ms) [memfd (emulated)]

                """)
    }

    @Test func `what is paid for twice is shown with its range, or said to be nothing`() {
        func reply(reclaimed: Bool, _ ranges: [DoubleResidency]) -> ManagerInterface.Verify.Reply {
            ManagerInterface.Verify.Reply(
                name: "web1", backend: .memfd, reclaimed: reclaimed,
                HolderInterface.Verify.Reply(checkedBytes: 1 << 30, ranges: ranges, milliseconds: 2))
        }
        let waste = [DoubleResidency(gpa: 0, bytes: 16 << 20, wasted: .shared, wastedBytes: 8192)]
        #expect(
            render(reply(reclaimed: false, waste), .plain) == """
                START         END             SIZE  WASTED  SIDE
                0x0000000000  0x0001000000  16 MiB   8 KiB  shared
                Double-resident: 8 KiB in 1 range; 1 GiB looked at in 2.00 ms [memfd (emulated)]

                """)
        #expect(
            render(reply(reclaimed: true, waste), .plain).hasSuffix(
                "Freed 8 KiB in 1 range; 1 GiB looked at in 2.00 ms [memfd (emulated)]\n"))
        #expect(
            render(reply(reclaimed: false, []), .plain)
                == "Nothing is double-resident; 1 GiB looked at in 2.00 ms [memfd (emulated)]\n")
    }

    @Test func `checks form a tree with hints`() {
        #expect(
            render(HostReport.sample, .plain) == """
                kvm
                ├─ /dev/kvm       PASS  opened
                └─ VM types       SKIP  0x1: 0 default
                                        hint: type 5 needs a CPU with TDX
                Memory available  FAIL  12 MiB
                                        hint: add some

                1 pass, 1 skip, 1 fail
                Backend: guest_memfd (emulated: the TDX module is software, the memory is real)
                Because: guest_memfd is there, memory attributes are not

                """)
    }

    @Test func `a map shows runs and their sums`() {
        let map = ManagerInterface.Map.Reply(
            name: "web1", backend: .memfd,
            runs: [
                MemoryRun(gpa: 0, bytes: 16 << 20, attribute: .private),
                MemoryRun(gpa: 16 << 20, bytes: 4096, attribute: .convertingToShared),
                MemoryRun(gpa: 1 << 32, bytes: 8192, attribute: .private),
            ])
        #expect(
            render(map, .plain) == """
                START         END             SIZE  ATTRIBUTE
                0x0000000000  0x0001000000  16 MiB  private
                0x0001000000  0x0001001000   4 KiB  converting_to_shared
                0x0100000000  0x0100002000   8 KiB  private
                3 runs: 16 MiB private, 4 KiB converting_to_shared [memfd (emulated)]

                """)
    }

    @Test func `a conversion tells what changed`() {
        let reply = ManagerInterface.Convert.Reply(
            name: "web1", backend: .guestMemfd, gpa: 0x100_0000, bytes: 4 << 20, to: .shared, changedBytes: 4 << 20,
            discardedBytes: 8192, milliseconds: 1.234)
        #expect(
            render(reply) == """
                web1: 0x0001000000–0x0001400000 (4 MiB) is shared
                4 MiB changed side, 8 KiB discarded, in 1.23 ms [guest_memfd (emulated)]

                """)
    }

    @Test func `a status is explained`() {
        let text = render(TDXStatus(0xc000_0300_0000_0001).explain(), .plain)
        #expect(text.hasPrefix("Status        0xc000030000000001\nName          PAGE_METADATA_INCORRECT\n"))
        #expect(text.contains("Operand       RCX\n"))
    }

    @Test func `text from elsewhere cannot redraw the terminal`() {
        let domain = TrustDomain.sample("web1", reason: "\u{1b}[2Jgone\n\u{202e}x")
        #expect(render(domain, .plain).contains("runnable: \\u{1b}[2Jgone\\u{a}\\u{202e}x\n"))
    }

    @Test func `colours come only where they are wanted`() {
        #expect(!render([.sample("web1")], .plain).contains("\u{1b}"))
        #expect(render([.sample("web1")], .colours).contains("\u{1b}[32mrunnable\u{1b}[0m   1 GiB"))
    }

    @Test(
        arguments: [
            (0, "0 B"), (1023, "1023 B"), (4096, "4 KiB"), (5000, "4.8 KiB"), ((1 << 30) + 4096, "1 GiB"),
            (1 << 30, "1 GiB"),
            ((1 << 30) - 1, "1023.9 MiB"), (UInt64.max, "16777215.9 TiB"),
        ] as [(UInt64, String)])
    func `a size is never said to be more than it is`(_ bytes: UInt64, _ text: String) {
        #expect(formatted(bytes: bytes) == text)
    }

    @Test(
        arguments: [
            (0, "0 µs"), (0.0404, "40 µs"), (1.005, "1.00 ms"), (38.512, "38.5 ms"), (999.6, "1000 ms"),
            (12_345, "12.3 s"), (.infinity, "? s"),
        ] as [(Double, String)])
    func `a time keeps the digits that count`(_ milliseconds: Double, _ text: String) {
        #expect(formatted(milliseconds: milliseconds) == text)
    }
}

@Suite struct `The progress of long work` {
    private let start = MonotonicInstant(nanoseconds: 1_000_000_000)

    private func news(_ phase: String, _ done: UInt64, of total: UInt64) -> Progress {
        Progress(phase: phase, doneBytes: done, totalBytes: total)
    }

    @Test func `a terminal gets one bar that is redrawn and wiped`() {
        var bar = ProgressBar(title: "stop web1", isTerminal: true, width: 70, now: start)
        #expect(
            bar.update(news("release", 256 << 20, of: 1 << 30), now: start)
                == "\rstop web1: release [######···················] 25 %, 256 MiB of 1 GiB\u{1b}[K")
        #expect(bar.update(news("release", 257 << 20, of: 1 << 30), now: start + .milliseconds(10)) == "")
        #expect(bar.update(news("prove", 0, of: 0), now: start + .milliseconds(20)) == "\rstop web1: prove\u{1b}[K")
        #expect(bar.finish() == "\r\u{1b}[K")
        #expect(bar.finish() == "")
    }

    @Test func `a phase's detail is set apart from its name`() {
        var bar = ProgressBar(title: "create web1", isTerminal: false, width: 80, now: start)
        let news = Progress(phase: "start", doneBytes: 0, totalBytes: 0, detail: "starting a holder")
        #expect(bar.update(news, now: start + .seconds(2)) == "create web1: start – starting a holder\n")
        let more = Progress(phase: "release", doneBytes: 4096, totalBytes: 8192, detail: "shard 2")
        #expect(bar.update(more, now: start + .seconds(4)) == "create web1: release 50 %, 4 KiB of 8 KiB, shard 2\n")
    }

    @Test func `a narrow terminal is never overrun`() {
        for width in 1...80 {
            var bar = ProgressBar(title: "create with-a-long-name", isTerminal: true, width: width, now: start)
            let text = bar.update(news("load", 1 << 29, of: 1 << 30), now: start)
            #expect(text.dropFirst().count { $0 != "\u{1b}" } - 2 <= max(width - 1, 1))
        }
    }

    @Test func `elsewhere short work is silent and long work tells once a second`() {
        var bar = ProgressBar(title: "create web1", isTerminal: false, width: 80, now: start)
        #expect(bar.update(news("load", 0, of: 8192), now: start + .milliseconds(900)) == "")
        #expect(
            bar.update(news("load", 4096, of: 8192), now: start + .milliseconds(1000))
                == "create web1: load 50 %, 4 KiB of 8 KiB\n")
        #expect(bar.update(news("load", 5000, of: 8192), now: start + .milliseconds(1100)) == "")
        #expect(bar.update(news("measure", 0, of: 0), now: start + .milliseconds(1200)) == "create web1: measure\n")
        #expect(bar.finish() == "")
    }
}
