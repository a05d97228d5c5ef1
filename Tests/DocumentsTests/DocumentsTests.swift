import ArgumentParser
import ControlInterface
import MemoryUnits
import ServiceSupport
import Testing
import Varlink

@testable import TDXControl

/// What documents state about the code, compared with the code.
@Suite struct `Documents` {
    @Test func `CHANGELOG.md begins with the programs' version`() throws {
        let heads = try Repository.text("CHANGELOG.md").split(separator: "\n").filter { $0.hasPrefix("## ") }
        let first = try #require(heads.first)
        #expect(first.split(separator: " ")[1] == ControlInterfaceVersion.text)
    }

    @Test func `control-interface.md's limits are tdxd's and the library's defaults`() throws {
        let library = VarlinkLimits()
        let tdxd = TDXDConfiguration()
        let first = min(tdxd.deadlines.firstMessage, tdxd.deadlines.client)
        func seconds(_ time: Duration) -> String { "\(time.components.seconds) s" }
        func size(_ bytes: Int) -> String { "\(ByteCount(UInt64(bytes)))" }
        func users(_ all: Int, _ one: Int?) -> String { "\(all) and \(one.map(String.init) ?? "none")" }
        let expected = [
            ["a message to a server", "\(tdxd.limits.messageSize)", size(library.messageBytes)],
            ["nesting", "\(library.nestingDepth) levels", "\(library.nestingDepth) levels"],
            ["descriptors waiting on a connection", "\(library.descriptors)", "\(library.descriptors)"],
            [
                "connections, over all and for one user",
                users(tdxd.limits.connections, tdxd.limits.connectionsPerUser),
                users(library.connections, library.connectionsPerUser),
            ],
            [
                "time for a message, from the first byte (or from connecting) to the last", seconds(first),
                seconds(library.messageTimeout),
            ],
            ["bytes queued for answers that are not read", size(library.queuedBytes), size(library.queuedBytes)],
            ["time without a single byte read", seconds(tdxd.deadlines.client), seconds(library.stallTimeout)],
            [
                "answers of one user's clients that are not read, together", size(library.unreadBytesPerUser),
                size(library.unreadBytesPerUser),
            ],
            ["time between two calls", seconds(tdxd.deadlines.idle), library.idleTimeout.map(seconds) ?? "none"],
        ]
        let stated = try Repository.table("docs/control-interface.md", head: "what | tdxd")
        #expect(stated.map { Array($0.prefix(3)) } == expected)
    }

    @Test func `control-interface.md's socket is the default of tdxd and of tdxctl`() throws {
        let row = try #require(try Repository.table("docs/control-interface.md", head: "socket").first)
        #expect(row[0].hasPrefix("`\(TDXDConfiguration().service.socket)`"))
        #expect(GlobalOptions.standardSocket == TDXDConfiguration().service.socket)
    }

    @Test func `every list of exit statuses has those that tdxctl ends with`() throws {
        let all = ExitStatus.allCases.map { String($0.rawValue) }
        #expect(try Repository.table("docs/control-interface.md", head: "exit status").map { $0[0] } == all)
        // In running text a status is a number before its meaning: “Exit status: 0 ok, 1 failed, …”.
        for text in [try Repository.text("README.md"), Tdxctl.configuration.discussion] {
            let start = try #require(text.firstRange(of: "Exit status: "))
            let sentence = text[start.upperBound...].prefix { $0 != "." }
            let stated = sentence.split { !$0.isASCII || !$0.isNumber }.map(String.init)
            #expect(stated == all)
        }
    }

    @Test func `tdxd.conf states the ranges that whole numbers have`() throws {
        let lines = try Repository.text("config/tdxd.conf").split(separator: "\n", omittingEmptySubsequences: false)
        var compared = 0
        for setting in Setting.all where setting.expected.hasPrefix("a whole number from ") {
            let range = setting.expected.dropFirst("a whole number from ".count).prefix { $0 != "," }
            let index = try #require(lines.firstIndex { $0.hasPrefix("#\(setting.key) =") })
            let comment = lines[..<index].reversed().prefix { $0.hasPrefix("# ") }.reversed().joined(separator: " ")
            // Not every comment has a range; one that has must have the code's.
            guard comment.contains(/\d+ to \d+/) else { continue }
            #expect(comment.contains(range), "\(setting.key): \(range)")
            compared += 1
        }
        #expect(compared > 5)
    }

    @Test func `fuzzing.md lists the fuzzer's targets, each with inputs to begin with`() throws {
        let list = try #require(
            try Repository.text("Fuzz/Sources/fuzz/FuzzTarget.swift").split(separator: "\n").first {
                $0.contains("static let all = [")
            })
        let names = list.drop { $0 != "[" }.dropFirst().prefix { $0 != "]" }.split(separator: ",").map {
            String($0.drop { $0 == " " })
        }
        #expect(names.count > 5)
        #expect(try Repository.table("docs/fuzzing.md", head: "target").map { $0[0] } == names)
        #expect(try Repository.list("Fuzz/Corpus") == names.sorted())
    }

    @Test func `architecture.md's backends are those of the interface, in the order in which they are tried`() throws {
        let stated = try Repository.table("docs/architecture.md", head: "backend").map { $0[0] }
        #expect(stated == Backend.allCases.map { "`\($0.rawValue)`" })
    }

    @Test func `architecture.md has a row for every room`() throws {
        let cells = try Repository.table("docs/architecture.md", head: "room").map { $0[0] }
        let programs: Set = ["tdxd", "tdx-holder", "tdxctl", "tdx-module-server"]
        let named = cells.flatMap { $0.split(separator: "`").map(String.init).filter { $0 != " " } }
        let rooms = try Repository.list("Sources").filter { !programs.contains($0) }
        #expect(named.sorted() == rooms)
    }

    @Test func `LinuxSystem knows neither KVM nor TDX, as architecture.md states`() throws {
        let row = try #require(
            try Repository.table("docs/architecture.md", head: "room").first { $0[0] == "`LinuxSystem`" })
        #expect(row[2] == "KVM, TDX")
        for path in try Repository.sources("Sources/LinuxSystem") {
            // Names of the project, in which “TDX” means no more than the project; "TDXDWILL" marks a file of its own.
            let text = try Repository.text(path).lowercased().replacing("tdxd", with: "")
            for word in ["kvm", "tdx", "trust domain", "vcpu"] {
                #expect(!text.contains(word), "\(path) has “\(word)”")
            }
        }
    }

    @Test func `emulator.md's folders are the room's, and each knows only those above it`() throws {
        let room = "Sources/TDXEmulator/"
        let folders = try Repository.table("docs/emulator.md", head: "folder").map { $0[0].filter { $0 != "`" } }
        #expect(folders.sorted() == (try Repository.list(room).filter { !$0.hasSuffix(".swift") }))
        let code = try folders.map { folder in
            try Repository.list(room + folder).map { try Repository.code(room + folder + "/" + $0) }.joined()
        }
        for (index, folder) in folders.enumerated() {
            let words = Set(code[index].matches(of: /\w+/).map { $0.0 })
            for later in folders.indices.dropFirst(index + 1) {
                let declared = code[later].matches(of: Repository.declaration).map { $0.1 }
                #expect(!declared.isEmpty)
                let used = declared.filter(words.contains)
                #expect(used.isEmpty, "\(folder) knows \(used) of \(folders[later])")
            }
        }
    }

    @Test(arguments: try documents())
    func `links lead to files that exist`(document: String) throws {
        let folder = document.split(separator: "/").dropLast().map { $0 + "/" }.joined()
        // Without code, whose subscripts look like links.
        let prose = try Repository.text(document).split(separator: "```", omittingEmptySubsequences: false).enumerated()
            .filter { $0.offset % 2 == 0 }.map(\.element).joined()
        for link in prose.split(separator: "](").dropFirst() {
            let target = link.prefix { $0 != ")" && $0 != "#" && $0 != " " }
            guard !target.isEmpty, !target.contains("://") else { continue }
            #expect(Repository.exists(Repository.root + "/" + folder + target), "\(document) links to \(target)")
        }
    }

    @Test func `contributing.md names files that exist`() throws {
        // Paths in backticks that begin with a folder of this repository; “NAME” stands for what is new.
        let roots = ["Sources/", "Tests/", "docs/", "scripts/", "config/", "Fuzz/", "systemd/"]
        let parts = try Repository.text("docs/contributing.md").split(separator: "`", omittingEmptySubsequences: false)
        let paths = parts.enumerated().filter { index, part in
            index % 2 == 1 && roots.contains { part.hasPrefix($0) } && !part.contains("NAME") && !part.contains(" ")
                && !part.contains("*")
        }.map(\.element)
        #expect(paths.count > 10)
        for path in paths { #expect(Repository.exists(String(path)), "contributing.md names \(path)") }
    }

    private static func documents() throws -> [String] {
        let top = try Repository.list(".").filter { $0.hasSuffix(".md") }
        let docs = try Repository.list("docs").filter { $0.hasSuffix(".md") }.map { "docs/" + $0 }
        let decisions = try Repository.list("docs/decisions").map { "docs/decisions/" + $0 }
        return top + docs + decisions
    }
}
