import Glibc
import LinuxSystem
import Testing

@Suite struct DurableFileTests {
    @Test func `nothing half-written stays behind when writing fails`() throws {
        let place = try TemporaryTree()
        mkdir(place.path + "/x", 0o700)
        #expect(throws: LinuxError.self) { try DurableFile.write([1], name: "x", in: place.path) }
        #expect(access(place.path + "/.x.new", F_OK) != 0)
    }

    @Test func `a file that is too long, a link or a FIFO is not read`() throws {
        let place = try TemporaryTree()
        try DurableFile.write([UInt8](repeating: 1, count: 100), name: "f", in: place.path)
        #expect(try DurableFile.read(path: place.path + "/f", limit: 100).count == 100)
        #expect(throws: LinuxError.self) { try DurableFile.read(path: place.path + "/f", limit: 99) }
        symlink(place.path + "/f", place.path + "/l")
        #expect(throws: LinuxError.self) { try DurableFile.read(path: place.path + "/l") }
    }

    @Test func `a file that others read has its mode whatever the umask is`() throws {
        let place = try TemporaryTree()
        try DurableFile.write([1], name: "exact", in: place.path, mode: 0o666, isExact: true)
        #expect(try FileStatus(ofPath: place.path + "/exact").permissions == 0o666)
        try DurableFile.write([1], name: "plain", in: place.path, mode: 0o600)
        #expect(try FileStatus(ofPath: place.path + "/plain").permissions == 0o600)
    }
}
