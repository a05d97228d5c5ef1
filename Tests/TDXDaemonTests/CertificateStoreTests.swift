import ControlInterface
import Glibc
import LinuxSystem
import SystemPackage
import Testing

@testable import TDXDaemon

@Suite struct CertificateStoreTests {
    @Test func `a certificate is read back as it was written, and replaced whole`() throws {
        let place = try TemporaryDirectory()
        let store = CertificateStore(directory: place.path)
        let record = Sample.record("web1")
        try store.write(Sample.certificate(record, holds: false))
        #expect(try store.read(name: record.name, id: record.id)?.complete == false)
        try store.write(Sample.certificate(record))
        #expect(try store.read(name: record.name, id: record.id) == Sample.certificate(record))
        #expect(store.names() == ["web1-id-of-web1.json"])
    }

    @Test func `what was never written is not there`() throws {
        let place = try TemporaryDirectory()
        #expect(try CertificateStore(directory: place.path).read(name: "a", id: "b") == nil)
    }

    @Test func `a directory that is missing is an error, not a success`() throws {
        let place = try TemporaryDirectory()
        let store = CertificateStore(directory: place.path + "/missing")
        #expect(throws: LinuxError.self) { try store.write(Sample.certificate(Sample.record("a"))) }
    }

    @Test func `only as many as configured are kept, the newest`() throws {
        let place = try TemporaryDirectory()
        let store = CertificateStore(directory: place.path, retained: 3)
        for number in 0..<6 {
            try store.write(Sample.certificate(Sample.record("td\(number)", id: "id\(number)")))
            // Modification times have the granularity of the clock tick; make the order plain.
            var times = [timeval(tv_sec: 1000 + number, tv_usec: 0), timeval(tv_sec: 1000 + number, tv_usec: 0)]
            utimes("\(place.path)/td\(number)-id\(number).json", &times)
        }
        #expect(store.names() == ["td3-id3.json", "td4-id4.json", "td5-id5.json"])
    }

    private static func age(_ path: String, days: Int, now: Int) {
        let second = now - days * 86_400
        var times = [timeval(tv_sec: second, tv_usec: 0), timeval(tv_sec: second, tv_usec: 0)]
        #expect(utimes(path, &times) == 0)
    }

    @Test func `certificates that are older than configured go, except those of TDs that are listed`() throws {
        let place = try TemporaryDirectory()
        let now = Int(WallTime.now.nanoseconds / 1_000_000_000)
        let all = CertificateStore(directory: place.path)
        for (name, days) in [("today", 0), ("week", 7), ("month", 30), ("kept", 400), ("year", 365)] {
            try all.write(Sample.certificate(Sample.record(name, id: "1")))
            Self.age("\(place.path)/\(name)-1.json", days: days, now: now)
        }
        let moment = WallTime(nanoseconds: Int64(now) * 1_000_000_000)
        #expect(all.prune(now: moment) == 0)
        #expect(all.names().count == 5)
        let store = CertificateStore(directory: place.path, days: 30)
        // Thirty days old is not older than thirty days.
        #expect(store.prune(keeping: ["kept-1.json"], now: moment) == 1)
        #expect(store.names() == ["kept-1.json", "month-1.json", "week-1.json", "today-1.json"])
        let later = WallTime(nanoseconds: moment.nanoseconds + 1_000_000_000)
        #expect(store.prune(keeping: ["kept-1.json"], now: later) == 1)
        // Writing one does it as well, and by number too.
        let few = CertificateStore(directory: place.path, retained: 2, days: 6)
        try few.write(Sample.certificate(Sample.record("new", id: "2")), keeping: ["kept-1.json"])
        #expect(Set(few.names()) == ["kept-1.json", "today-1.json", "new-2.json"])
    }

    @Test func `a certificate is found by its id, or by its name the latest`() throws {
        let place = try TemporaryDirectory()
        let store = CertificateStore(directory: place.path)
        func write(_ name: String, _ id: String, _ second: Int) throws {
            var certificate = Sample.certificate(Sample.record(name, id: id))
            certificate.startedAt = "2026-03-01T12:00:0\(second).000Z"
            try store.write(certificate)
        }
        try write("web1", "b2", 2)
        try write("web1", "a1", 1)
        try write("web1-b2", "c3", 3)
        // Its name is the other's id.
        try write("a1", "d4", 4)
        #expect(store.find("web1")?.id == "b2")
        #expect(store.find("a1")?.id == "a1")
        #expect(store.find("b2")?.id == "b2")
        #expect(store.find("web1-b2")?.id == "c3")
        #expect(store.find("web") == nil)
        #expect(store.find("2") == nil)
        #expect(store.all().map(\.id) == ["d4", "c3", "b2", "a1"])
    }

    @Test func `a file that is no certificate is told and left out`() throws {
        let place = try TemporaryDirectory()
        let store = CertificateStore(directory: place.path)
        try store.write(Sample.certificate(Sample.record("web1")))
        try DurableFile.write(Array("{}".utf8), name: "web1-x.json", in: place.path)
        var flaws: [String] = []
        #expect(store.all { flaws.append($0) }.map(\.name) == ["web1"])
        #expect(flaws.count == 1 && flaws[0].hasPrefix("web1-x.json: "))
    }
}

/// A directory of the test's own, removed with everything in it.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/tdxd-test.XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else {
            throw LinuxError("mkdtemp", Errno(rawValue: errno), detail: "/tmp")
        }
        path = String(cString: made)
    }

    deinit { try? DirectoryTree.remove(path) }
}
