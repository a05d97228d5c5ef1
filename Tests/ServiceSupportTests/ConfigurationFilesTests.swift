import Glibc
import ServiceSupport
import Testing

@Suite struct `Configuration files` {
    @Test func `are read with their drop-ins in the order of names`() throws {
        let folder = try TemporaryFolder()
        try folder.write("tdxd.conf", "[limits]\ntrust_domains = 1\nconnections = 200\n")
        try folder.makeFolder("tdxd.conf.d")
        try folder.write("tdxd.conf.d/20-b.conf", "[limits]\ntrust_domains = 3\n")
        try folder.write("tdxd.conf.d/10-a.conf", "[limits]\ntrust_domains = 2\n[access]\nothers = none\n")
        try folder.write("tdxd.conf.d/.hidden.conf", "nonsense")
        try folder.write("tdxd.conf.d/30-c.conf.bak", "nonsense")
        let read = try TDXDConfiguration(loading: folder.path + "/tdxd.conf")
        #expect(read.limits.trustDomains == 3 && read.limits.connections == 200)
        #expect(read.access.others == .none)
    }

    @Test func `name the drop-in that is wrong`() throws {
        let folder = try TemporaryFolder()
        try folder.write("tdxd.conf", "")
        try folder.makeFolder("tdxd.conf.d")
        try folder.write("tdxd.conf.d/x.conf", "[limits]\ntrust_domain = 3\n")
        let error = #expect(throws: ConfigurationError.self) {
            try TDXDConfiguration(loading: folder.path + "/tdxd.conf")
        }
        #expect(error?.file == folder.path + "/tdxd.conf.d/x.conf" && error?.line == 2)
    }

    @Test func `that are named must be there, and be files`() throws {
        let folder = try TemporaryFolder()
        func reason(_ name: String) -> ConfigurationError.Reason? {
            do throws(ConfigurationError) {
                _ = try TDXDConfiguration(loading: folder.path + "/" + name)
                return nil
            } catch {
                return error.reason
            }
        }
        #expect(reason("missing.conf") == .unreadable)
        try folder.makeFolder("folder.conf")
        #expect(reason("folder.conf") == .notAFile)
        try #require(mkfifo(folder.path + "/fifo.conf", 0o600) == 0)
        #expect(reason("fifo.conf") == .notAFile)
        try folder.write("large.conf", String(repeating: "#", count: INIDocument.maximumSize + 1))
        #expect(reason("large.conf") == .tooLarge)
    }

    @Test func `as shipped show every default of the code, once, in order, commented out`() throws {
        let path = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/config/tdxd.conf"
        let lines = try readText(path).split(separator: "\n")
        #expect(try TDXDConfiguration(loading: path) == TDXDConfiguration())

        // A comment that is a setting: “#key = value”, without a blank behind the “#”.
        var shown: [String] = []
        var section = ""
        for line in lines {
            if line.hasPrefix("[") { section = String(line.dropFirst().dropLast()) }
            guard line.hasPrefix("#"), !line.hasPrefix("# "), line != "#" else { continue }
            shown.append("\(section).\(line.dropFirst())")
        }
        let defaults = TDXDConfiguration()
        #expect(shown == Setting.all.map { "\($0.section).\($0.key) = \($0.text(in: defaults))" })
    }
}

/// A folder that goes with its last reference.
final class TemporaryFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/tdxd-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { _ = system("rm -rf '\(path)'") }

    func write(_ name: String, _ text: String) throws {
        let file = try #require(fopen(path + "/" + name, "w"))
        defer { fclose(file) }
        try #require(fputs(text, file) >= 0)
    }

    func makeFolder(_ name: String) throws {
        try #require(mkdir(path + "/" + name, 0o700) == 0)
    }
}

func readText(_ path: String) throws -> String {
    let file = try #require(fopen(path, "r"))
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while case let count = fread(&chunk, 1, chunk.count, file), count > 0 { bytes += chunk[..<count] }
    return String(decoding: bytes, as: UTF8.self)
}
