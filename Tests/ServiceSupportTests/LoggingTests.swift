import Glibc
import LinuxSystem
import Logging
import ServiceSupport
import Testing

private let canPlayJournal =
    system("unshare --user --map-root-user --mount python3 -c 'import json' 2>/dev/null") == 0

@Suite struct `A log line` {
    @Test(.enabled(if: canPlayJournal, "no python3, or no user namespaces to play the journal in"))
    func `reaches the journal by its native protocol, line breaks and fields whole`() throws {
        let script =
            #filePath.split(separator: "/").dropLast(2).reduce("") { $0 + "/" + $1 }
            + "/CrossChecks/journal_receiver.py"
        let ran = try Helper.run(
            ["log"], environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            shell: "exec unshare --user --map-root-user --mount python3 '\(script)' \"$@\"")
        try #require(ran.exit == .exited(status: 0) && ran.output.count == 2, "\(ran)")
        for field in [
            #"["MESSAGE", "two\nlines"]"#, #"["PRIORITY", "4"]"#, #"["SYSLOG_IDENTIFIER", "helper"]"#,
            #"["TDXD_LOGGER", "test"]"#, #"["TDXD_SPACED", "a \"b\""]"#, #"["TDXD_EMPTY", ""]"#,
            #"["TDXD_TD", "web1"]"#, #"["TDX_STATUS", "0x1"]"#,
        ] {
            #expect(ran.output[0].contains(field))
        }
        #expect(ran.output[1].contains(#"["MESSAGE", "shown"]"#))
        #expect(ran.errors.isEmpty)
    }

    @Test func `for people has time, level and program, and forges nothing`() throws {
        let lines = try Helper.run(["log"]).errors
        try #require(lines.count == 2)
        #expect(
            lines[0].hasSuffix(" warning helper: two\\nlines empty=\"\" spaced=\"a \\\"b\\\"\" td=web1 tdx_status=0x1"))
        #expect(lines[1].hasSuffix(" debug helper: shown td=web1"))
        let time = try #require(lines[0].split(separator: " ").first)
        #expect(time.utf8.count == 24 && time.hasSuffix("Z") && time.dropFirst(10).first == "T")
    }

    @Test func `under systemd has its priority before it`() throws {
        let lines = try Helper.run(["log"], shell: "SYSTEMD_EXEC_PID=$$ exec \"$@\"").errors
        #expect(
            lines == [
                "<4>two\\nlines empty=\"\" spaced=\"a \\\"b\\\"\" td=web1 tdx_status=0x1", "<7>shown td=web1",
            ])
    }

    @Test func `goes to the journal only where standard error is the journal's stream`() {
        let stream = FileIdentity(device: 8, inode: 1234)
        func choice(_ journal: String?, _ exec: String?, _ identity: FileIdentity?) -> LogDestination {
            LogDestination.choose(journalStream: journal, execPID: exec, standardError: identity, pid: 42)
        }
        #expect(choice("8:1234", "42", stream) == .journal)
        #expect(choice("8:1234", nil, stream) == .journal)
        #expect(choice("8:1235", "42", stream) == .prefixedStandardError)
        #expect(choice("9:1234", "41", stream) == .plainStandardError)
        #expect(choice("nonsense", nil, stream) == .plainStandardError)
        #expect(choice("8:1234", nil, nil) == .plainStandardError)
        #expect(choice(nil, nil, stream) == .plainStandardError)
    }

    @Test func `has its metadata as journal fields`() {
        let record = LogRecord(
            label: "registry", identifier: "tdxd", level: .error, message: "a\nb",
            metadata: [
                ("backend", "memfd"), ("message_id", "abc"), ("td", "web1"), ("tdx_status", "0x1"), ("ü-1", "x"),
            ],
            file: "F.swift", function: "f()", line: 7)
        #expect(
            record.journalFields == [
                "MESSAGE=a\nb", "PRIORITY=3", "SYSLOG_IDENTIFIER=tdxd", "TDXD_LOGGER=registry", "CODE_FILE=F.swift",
                "CODE_LINE=7", "CODE_FUNC=f()", "TDXD_BACKEND=memfd", "MESSAGE_ID=abc", "TDXD_TD=web1",
                "TDX_STATUS=0x1", "TDXD____1=x",
            ])
    }

    @Test func `has at most 64 fields, with names of at most 64 bytes`() {
        let many = (0..<100).map { (key: "key\($0)" + String(repeating: "x", count: 80), value: "v") }
        let record = LogRecord(
            label: "l", identifier: "i", level: .info, message: "m", metadata: many, file: "f", function: "f", line: 1)
        #expect(record.journalFields.count == 64)
        #expect(record.journalFields.allSatisfy { $0.split(separator: "=")[0].utf8.count <= 64 })
    }

    @Test(arguments: [
        (Logger.Level.critical, 2), (.error, 3), (.warning, 4), (.notice, 5), (.info, 6), (.debug, 7), (.trace, 7),
    ])
    func `has the syslog priority of its level`(level: Logger.Level, priority: Int) {
        let record = LogRecord(
            label: "", identifier: "", level: level, message: "", metadata: [], file: "", function: "", line: 0)
        #expect(record.priority == priority)
    }
}

@Suite struct `A rate limiter` {
    @Test func `lets a burst through, then one per interval, and says how many it kept`() {
        let limiter = LogRateLimiter(burst: 2, interval: .seconds(10))
        #expect(limiter.admit("a", now: .seconds(100)) == 0)
        #expect(limiter.admit("a", now: .seconds(100)) == 0)
        #expect(limiter.admit("a", now: .seconds(100)) == nil)
        #expect(limiter.admit("b", now: .seconds(100)) == 0)
        #expect(limiter.admit("a", now: .seconds(109)) == nil)
        #expect(limiter.admit("a", now: .seconds(110)) == 2)
        #expect(limiter.admit("a", now: .seconds(110)) == nil)
        #expect(limiter.admit("a", now: .seconds(1000)) == 1)
        #expect(limiter.admit("a", now: .seconds(1000)) == 0)
        #expect(limiter.admit("a", now: .seconds(1000)) == nil)
    }

    @Test func `shares one bucket among kinds beyond its capacity`() {
        let limiter = LogRateLimiter(burst: 1, interval: .seconds(10), capacity: 10)
        let admitted = (0..<1000).filter { limiter.admit("user \($0)", now: .seconds(1)) != nil }
        #expect(admitted.count == 11)
        // Later, when the old kinds are full again, new ones are told apart anew.
        #expect(limiter.admit("another", now: .seconds(1000)) == 0)
        #expect(limiter.admit("yet another", now: .seconds(1000)) == 0)
    }
}
