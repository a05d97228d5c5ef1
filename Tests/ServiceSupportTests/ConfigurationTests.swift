import Logging
import MemoryUnits
import ServiceSupport
import Testing

/// What a text configures; later texts win.
private func configuration(_ texts: String...) throws(ConfigurationError) -> TDXDConfiguration {
    var documents: [INIDocument] = []
    for (index, text) in texts.enumerated() {
        documents.append(try INIDocument(parsing: Array(text.utf8), file: "\(index).conf"))
    }
    return try TDXDConfiguration(documents)
}

@Suite struct `A configuration` {
    @Test func `that says nothing is the defaults`() throws {
        #expect(try configuration("") == TDXDConfiguration())
        #expect(try configuration("# nothing\n; here\n\n[service]\n") == TDXDConfiguration())
    }

    @Test func `sets every kind of value`() throws {
        let read = try configuration(
            """
            [service]
            socket = /tmp/a.sock
              socket_mode=0600\t
            on_stop = "drain"
            log_level = trace
            [access]
            admin_group = ""
            others = none
            [backend]
            backend = software_protected
            emulated_key_ids = 7
            [memory]
            release_chunk = 0x400000
            reserve = 0
            [limits]
            message_size = 64K
            [deadlines]
            client = 1500ms
            drain = 1h
            """)
        var expected = TDXDConfiguration()
        expected.service.socket = "/tmp/a.sock"
        expected.service.socketMode = 0o600
        expected.service.onStop = .drain
        expected.service.logLevel = .trace
        expected.access.adminGroup = nil
        expected.access.others = .none
        expected.backends.backend = .softwareProtected
        expected.backends.emulatedKeyIDs = 7
        expected.memory.releaseChunk = .mebibytes(4)
        expected.memory.reserve = .zero
        expected.limits.messageSize = .kibibytes(64)
        expected.deadlines.client = .milliseconds(1500)
        expected.deadlines.drain = .seconds(3600)
        #expect(read == expected)
    }

    @Test func `takes the last file's word, and an empty value is the default again`() throws {
        let read = try configuration(
            "[limits]\nconnections = 100\ntrust_domains = 5\n[access]\nadmin_group = wheel",
            "[limits]\nconnections = 101\ntrust_domains =\n[access]\nadmin_group =")
        #expect(read.limits.connections == 101)
        #expect(read.limits.trustDomains == TDXDConfiguration().limits.trustDomains)
        #expect(read.access.adminGroup == TDXDConfiguration().access.adminGroup)
    }

    @Test(arguments: Setting.all.map { "\($0.section).\($0.key)" })
    func `writes each setting so that it reads it back`(name: String) throws {
        let setting = try #require(Setting.all.first { "\($0.section).\($0.key)" == name })
        let text = setting.text(in: TDXDConfiguration())
        #expect(try configuration("[\(setting.section)]\n\(setting.key) = \(text)") == TDXDConfiguration())
    }

    @Test func `reads users by name and number, and none`() throws {
        let read = try configuration(
            "[access]\nadmin_users = alice  _bob\t1005\noperate_users = \"\"\nobserve_users = 0\nobserve_group = watch")
        #expect(read.access.adminUsers == ["alice", "_bob", "1005"])
        #expect(read.access.operateUsers.isEmpty && read.access.observeUsers == ["0"])
        #expect(read.access.observeGroup == "watch")
        let setting = try #require(Setting.all.first { $0.key == "admin_users" })
        #expect(try configuration("[access]\nadmin_users = \(setting.text(in: read))").access.adminUsers.count == 3)
    }

    @Test func `writes a path that ends with a blank so that it reads it back`() throws {
        let setting = try #require(Setting.all.first { $0.key == "state_directory" })
        for path in ["/a ", "/a b\t"] {
            let read = try configuration("[service]\nstate_directory = \"\(path)\"")
            #expect(read.service.stateDirectory == path)
            #expect(try configuration("[service]\nstate_directory = \(setting.text(in: read))") == read)
        }
    }

    @Test(
        arguments: [
            ("socket = /a\n", .outsideSection, 1),
            ("[service]\nsocket\n", .syntax, 2),
            ("[service\n", .syntax, 1),
            ("[]\n", .syntax, 1),
            ("[Service]\n", .syntax, 1),
            ("[service]\nSocket = /a\n", .syntax, 2),
            ("[service]\n= /a\n", .syntax, 2),
            ("[service]\nsocket = \"/a\n", .syntax, 2),
            ("[service]\nsocket = \"/a\"b\"\n", .syntax, 2),
            ("[service]\nsocket = \"\n", .syntax, 2),
            ("[service]\n\n# x\nsocket = /a\u{1}b\n", .notText, 4),
            ("[service]\nsocket = /a\n\nsocket = /b\n", .duplicateKey, 4),
            ("\n\n[servize]\nsocket = /a\n", .unknownSection, 4),
            ("[service]\nsockt = /a\n", .unknownKey, 2),
            ("[service]\nbackend = auto\n", .unknownKey, 2),
            ("[service]\nsocket = relative\n", .badValue, 2),
            ("[service]\nsocket = /a/../b\n", .badValue, 2),
            ("[service]\nsocket = /a//b\n", .badValue, 2),
            ("[service]\nsocket = \"\"\n", .badValue, 2),
            ("[service]\nsocket = /\(String(repeating: "x", count: 107))\n", .badValue, 2),
            ("[service]\nsocket_mode = 0777x\n", .badValue, 2),
            ("[service]\nsocket_mode = 1777\n", .badValue, 2),
            ("[service]\nsocket_mode = 0066\n", .badValue, 2),
            ("[service]\nsocket_mode = 668\n", .badValue, 2),
            ("[service]\non_stop = Keep\n", .badValue, 2),
            ("[service]\nlog_level = loud\n", .badValue, 2),
            ("[service]\nfirmware_directories = firmware\n", .badValue, 2),
            ("[service]\nfirmware_directories = /a:\n", .badValue, 2),
            ("[service]\nfirmware_directories = /a:/b/../c\n", .badValue, 2),
            (
                "[service]\nfirmware_directories = \(Array(repeating: "/a", count: 17).joined(separator: ":"))\n",
                .badValue, 2
            ),
            ("[access]\nadmin_group = two words\n", .badValue, 2),
            ("[access]\nadmin_group = -wheel\n", .badValue, 2),
            ("[access]\nobserve_group = Watch\n", .badValue, 2),
            ("[access]\nadmin_users = alice,bob\n", .badValue, 2),
            ("[access]\nadmin_users = alice alice\n", .badValue, 2),
            ("[access]\noperate_users = 4294967295\n", .badValue, 2),
            ("[access]\noperate_users = 007\n", .badValue, 2),
            ("[access]\noperate_users = -1\n", .badValue, 2),
            ("[access]\nobserve_users = \(String(repeating: "a", count: 33))\n", .badValue, 2),
            ("[access]\nobserve_users = \((0...64).map { "u\($0)" }.joined(separator: " "))\n", .badValue, 2),
            ("[access]\nadmin_users = a b\noperate_users = b\n", .conflict, 3),
            ("[access]\nobserve_users = 5\nadmin_users = 5\n", .conflict, 2),
            ("[backend]\nemulated_key_ids = 0\n", .badValue, 2),
            ("[backend]\nemulated_key_ids = 65536\n", .badValue, 2),
            ("[backend]\nemulated_key_ids = +5\n", .badValue, 2),
            ("[backend]\nemulated_key_ids = 99999999999999999999\n", .badValue, 2),
            ("[memory]\nrelease_chunk = 3M\n", .badValue, 2),
            ("[memory]\nrelease_chunk = 128M\n", .badValue, 2),
            ("[memory]\nshard_minimum = 1\n", .badValue, 2),
            ("[memory]\nreserve = -1\n", .badValue, 2),
            ("[limits]\nmessage_size = 2M\n", .badValue, 2),
            ("[deadlines]\nclient = 30\n", .badValue, 2),
            ("[deadlines]\nclient = 0s\n", .badValue, 2),
            ("[deadlines]\nclient = 30 years\n", .badValue, 2),
            ("[deadlines]\nclient = 9223372036854775807h\n", .badValue, 2),
            ("[memory]\nrelease_chunk = 32M\nshard_minimum = 2M\n", .conflict, 2),
            ("[limits]\nconnections = 4\n", .conflict, 2),
            ("[service]\ncertificate_days = 0\n", .badValue, 2),
            ("[service]\ncertificate_days = 36501\n", .badValue, 2),
            ("[service]\ncertificate_days = ever\n", .badValue, 2),
            ("[backend]\nemulated_failing_removal = 0\n", .badValue, 2),
            ("[backend]\nemulated_pre_fault = maybe\n", .badValue, 2),
            ("[backend]\nemulated_failing_removal = first\n", .badValue, 2),
            ("[backend]\nemulated_failing_removal = 1000000000001\n", .badValue, 2),
        ] as [(String, ConfigurationError.Reason, Int)])
    func `that makes no sense is refused with its line`(text: String, reason: ConfigurationError.Reason, line: Int) {
        let error = #expect(throws: ConfigurationError.self) { try configuration(text) }
        #expect(error?.reason == reason && error?.line == line, "\(error.map(String.init(describing:)) ?? "accepted")")
        #expect(error?.file == "0.conf")
    }

    @Test(
        arguments: [
            ("[service]\nsockt = /a", "0.conf:2: unknown key “sockt” in [service]; did you mean “socket”?"),
            ("[servise]\nsocket = /a", "0.conf:2: unknown section [servise]; did you mean “service”?"),
            ("[service]\nothers = read", "0.conf:2: unknown key “others” in [service]; it belongs in [access]"),
            (
                "[access]\nqqqqqqqqqq = read",
                "0.conf:2: unknown key “qqqqqqqqqq” in [access]; known are admin_group, operate_group, observe_group, admin_users, "
                    + "operate_users, observe_users, others"
            ),
            (
                "[limits]\nconnections = 5000",
                "0.conf:2: connections is “5000”; it must be a whole number from 1 to 4096"
            ),
        ])
    func `names what would have been right`(text: String, message: String) {
        let error = #expect(throws: ConfigurationError.self) { try configuration(text) }
        #expect(error?.description == message)
    }

    @Test func `of bytes that are no text is refused`() {
        let bytes = Array("[service]\nsocket = ".utf8) + [0xff, 0xfe]
        let error = #expect(throws: ConfigurationError.self) { try INIDocument(parsing: bytes, file: "x") }
        #expect(error?.reason == .notText && error?.line == 2)
        let large = [UInt8](repeating: UInt8(ascii: "#"), count: INIDocument.maximumSize + 1)
        #expect(throws: ConfigurationError.self) { try INIDocument(parsing: large, file: "x") }
    }

    @Test(arguments: [11, 12, 13, 14] as [UInt64])
    func `of random text is read or refused but never traps`(seed: UInt64) {
        print("seed \(seed)")
        var state = seed
        func next() -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33)
        }
        let pieces = [
            "[", "]", "=", "\n", "\"", "#", " ", "service", "limits", "socket", "connections", "/", "0", "1M", "30s",
            "é",
            "\r", "\u{0}", "\t", "18446744073709551616", "-",
        ]
        for _ in 0..<4000 {
            let text = (0..<next() % 24).map { _ in pieces[next() % pieces.count] }.joined()
            _ = try? configuration(text)
        }
    }
}
