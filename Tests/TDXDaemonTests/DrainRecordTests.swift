import ControlInterface
import Glibc
import LinuxSystem
import Testing

@testable import TDXDaemon

@Suite struct `A record of a drain` {
    /// A directory of a test's own.
    final class Folder {
        let path: String
        init() throws {
            var template = Array("/tmp/tdxd-drain.XXXXXX".utf8CString)
            path = String(cString: try #require(mkdtemp(&template)))
        }
        deinit {
            for name in DirectoryTree.names(in: path) {
                unlink(path + "/" + name)
                rmdir(path + "/" + name)
            }
            rmdir(path)
        }
        var record: String { path + "/" + DrainRecord.name }
        func put(_ text: String) throws {
            try DurableFile.write(Array(text.utf8), name: DrainRecord.name, in: path)
        }
    }

    static let sample = DrainRecord(purpose: .moduleUpdate, since: "2026-01-01T00:00:00Z", policy: .auto)

    @Test func `is read as it was written, and is absent where there is no file`() throws {
        let folder = try Folder()
        #expect(DrainRecord.read(in: folder.path) == .none)
        try Self.sample.write(in: folder.path)
        #expect(DrainRecord.read(in: folder.path) == .record(Self.sample))
    }

    @Test(arguments: [
        "", "{", "[]", #"{"purpose":"module_update","since":"2026","policy":"gentle"}"#, #"{"purpose":"dance"}"#,
    ])
    func `that cannot be understood is no record, and is set aside whole`(text: String) throws {
        let folder = try Folder()
        try folder.put(text)
        guard case .unreadable = DrainRecord.read(in: folder.path) else {
            Issue.record("\(DrainRecord.read(in: folder.path))")
            return
        }
        let first = try DrainRecord.setAside(in: folder.path)
        #expect(first == folder.record + ".unreadable")
        #expect(DrainRecord.read(in: folder.path) == .none)
        #expect(try DurableFile.read(path: try #require(first)) == Array(text.utf8))
        // A second one does not replace the first.
        try folder.put("other")
        #expect(try DrainRecord.setAside(in: folder.path) == folder.record + ".unreadable-1")
        #expect(try DurableFile.read(path: try #require(first)) == Array(text.utf8))
        #expect(try DrainRecord.setAside(in: folder.path) == nil)
    }

    @Test func `is unreadable for every refusal of open but ENOENT`() throws {
        let folder = try Folder()
        try #require(mkdir(folder.record, 0o700) == 0)
        guard case .unreadable = DrainRecord.read(in: folder.path) else {
            Issue.record("a directory")
            return
        }
        rmdir(folder.record)
        try #require(symlink("/nowhere", folder.record) == 0)
        guard case .unreadable(let why) = DrainRecord.read(in: folder.path) else {
            Issue.record("a link")
            return
        }
        #expect(why.contains("ELOOP"))
    }
}
