"""The official split of NYU Depth V2's 1449 labelled frames: 795 for training, 654 for testing, by whole scenes."""

from __future__ import annotations

FRAMES = 1449

_TRAIN = """
3-8 10-13 19-20 22-27 44-45 48-55 58 64-75 80-83 92-116 120-124 130 135-136 138-152 156-166 170 177-179
203-206 213-219 223-249 251-263 265-270 274-278 286-295 303-309 313-314 318-324 336-350 353-354 365-383
391-394 398-410 415-429 436-440 449-461 467-468 478-507 514 527-530 534-536 540-548 552-554 572-578 584-590
595-602 608-611 614-616 622-632 639-643 646-649 652-655 659-662 665-667 674-675 682-685 691-692 695-696
700-705 714-716 719-723 729-730 735-742 745-758 788-799 805-809 815-820 824-832 847-849 853-856 863-868
872-905 909-916 920-925 929-931 936-944 948-958 963-964 968-969 978-990 996-1000 1005-1009 1013-1020 1024-1031
1035-1037 1040-1047 1050-1051 1054-1056 1059-1074 1085-1087 1097 1105 1110-1116 1120-1122 1132-1134 1137-1143
1159-1161 1168-1169 1172-1173 1177-1178 1185-1191 1197-1200 1213-1215 1221-1225 1231-1232 1236-1246 1251-1253
1266-1274 1281-1284 1296 1300-1301 1309-1313 1316-1328 1333-1334 1341-1346 1350-1352 1357-1363 1366-1367
1370-1383 1392-1393 1402-1406 1415-1420 1425-1429 1434-1440
"""
"""1-based indices of the training frames as runs, as `splits.mat` lists them."""


def official_train() -> tuple[int, ...]:
    """0-based indices of the 795 training frames."""
    indices: list[int] = []
    for run in _TRAIN.split():
        first, _, last = run.partition("-")
        indices += range(int(first) - 1, int(last or first))
    return tuple(indices)


def official_test() -> tuple[int, ...]:
    """0-based indices of the 654 test frames."""
    train = set(official_train())
    return tuple(index for index in range(FRAMES) if index not in train)


def official_run(index: int) -> int:
    """Which run of neighbouring frames of one part the frame `index` (from 0) is in.

    Rooms are contiguous in the labelled set and on one side of the split, so that a run holds whole rooms: the finest scene
    that is certain where the names of rooms are lost.
    """
    train = set(official_train())
    return sum((i in train) != (i - 1 in train) for i in range(1, index + 1))
