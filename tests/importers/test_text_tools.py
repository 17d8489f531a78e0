"""Logs of well-known tools, line for line as these print them."""

from __future__ import annotations

import pytest

from eventlog.importers.text import Understanding, read_text
from eventlog.importers.text.decoding import decode


def series(understood: Understanding) -> dict[str, list[tuple[int | None, float]]]:
    found: dict[str, list[tuple[int | None, float]]] = {}
    for point in understood.points:
        found.setdefault(point.key, []).append((point.step, point.value))
    return found


XGBOOST = """\
[0]\ttrain-logloss:0.68312\teval-logloss:0.68451
[10]\ttrain-logloss:0.50000\teval-logloss:0.60000
Stopping. Best iteration:
[10]\ttrain-logloss:0.5\teval-logloss:0.6
"""


def test_rounds_of_xgboost_are_steps() -> None:
    """The number in front is the step; the best round, printed again, is a result and no further point."""
    understood = read_text(XGBOOST)

    assert series(understood) == {
        "train_logloss": [(0, 0.68312), (10, 0.5)],
        "eval_logloss": [(0, 0.68451), (10, 0.6)],
    }
    assert understood.final == {"best_train_logloss": 0.5, "best_eval_logloss": 0.6, "best_iteration": 10}
    assert understood.left_out == []


@pytest.mark.parametrize(
    ("line", "scores"),
    [
        ("[100]\tvalid_0's auc: 0.77\tvalid_0's l2: 5e-1", {"valid_0/auc": 0.77, "valid_0/l2": 0.5}),
        ("[100]\tcv_agg's auc: 0.77 + 0.01", {"cv_agg/auc": 0.77, "cv_agg/auc_std": 0.01}),
        ("[100]\ttrain-auc:0.91+0.01", {"train_auc": 0.91, "train_auc_std": 0.01}),
        ("[100]  train-auc:1e-02", {"train_auc": 0.01}),
        ("100:\tlearn: 0.5\tbest: 0.6 (10)\ttotal: 58.1ms", {"learn": 0.5, "best": 0.6, "total_s": 0.0581}),
        ("100:\tlearn: 0.5\tremaining: 1m 20s", {"learn": 0.5, "remaining_s": 80}),
    ],
)
def test_rounds_of_boosting_have_scores_deviations_and_times(line: str, scores: dict[str, float]) -> None:
    """XGBoost, LightGBM and CatBoost."""
    assert series(read_text(line)) == {key: [(100, value)] for key, value in scores.items()}


def test_log_of_megatron_keeps_whole_names() -> None:
    """Between bars all words are the name; what is dotted is an argument, prefixes of DeepSpeed are none."""
    understood = read_text(
        "  adam_beta1 ...................................... 0.9\n"
        "  data_path ....................................... ['/a', '/b']\n"
        " iteration       10/    1000 | consumed samples:          640 |"
        " elapsed time per iteration (ms): 521.3 |"
        " learning rate: 1.500E-06 | lm loss: 6.2E+00 | number of nan iterations:   0 |\n"
        "[2023-05-01 12:00:12,345] [INFO] [logging.py:96:log_dist] [Rank 0] step=20, skipped=1\n"
    )

    assert understood.params == {"adam_beta1": 0.9, "data_path": ["/a", "/b"]}
    assert series(understood) == {
        "consumed_samples": [(10, 640)],
        "elapsed_time_per_iteration_ms": [(10, 521.3)],
        "learning_rate": [(10, 1.5e-06)],
        "lm_loss": [(10, 6.2)],
        "number_of_nan_iterations": [(10, 0)],
        "skipped": [(20, 1)],
    }


def test_log_of_fairseq_tells_training_from_validation() -> None:
    """The word in front of a line belongs to its names."""
    understood = read_text(
        "2023-05-01 12:10:03 | INFO | train | epoch 001 | loss 9.1 | num_updates 1000 | lr 0.000125\n"
        "2023-05-01 12:10:13 | INFO | valid | epoch 001 | valid on it | loss 8.8 | num_updates 1000\n"
        "2023-05-01 12:10:14 | INFO | fairseq.checkpoint_utils | Saved checkpoint checkpoints/c1.pt (1)\n"
    )

    assert series(understood) == {
        "train_loss": [(1000, 9.1)],
        "train_lr": [(1000, 0.000125)],
        "valid_loss": [(1000, 8.8)],
    }
    assert [(file.path, file.is_checkpoint) for file in understood.files] == [("checkpoints/c1.pt", True)]


def test_log_of_detectron_has_metrics_and_results() -> None:
    """A table of one row is named values."""
    understood = read_text(
        "[05/01 12:00:10 d2.utils.events]:  eta: 0:12:34  iter: 19  total_loss: 4.5  lr: 1.6e-05\n"
        "|   AP   |  AP50  |\n|:------:|:------:|\n| 35.100 | 55.200 |\n"
        "[05/01 12:30:01 fvcore.common.checkpoint]: Saving checkpoint to ./output/model_final.pth\n"
    )

    assert series(understood) == {"total_loss": [(19, 4.5)], "lr": [(19, 1.6e-05)]}
    assert {key: understood.final[key] for key in ("ap", "ap50")} == {"ap": 35.1, "ap50": 55.2}
    assert understood.files[0].path == "./output/model_final.pth"


YOLO = """\
engine/trainer: task=detect, mode=train, model=yolov8n.yaml, epochs=2, batch=16

      Epoch    GPU_mem   box_loss  Instances       Size
        {0}/2      1.83G      1.13        215        640: 100%|██████████| 8/8 [00:03<00:00,  2.18it/s]
                 Class     Images  Instances      Box(P      mAP50  mAP50-95): 100%|█████| 4/4 [00:01<00:00]
                   all        128        929      0.641      0.605      0.446
"""


def test_tables_of_yolo_are_metrics_of_their_epoch() -> None:
    """A header for each epoch, a bar behind the cells, a row about all classes; a batch size is no step."""
    understood = read_text(YOLO.format(1) + YOLO[YOLO.index("\n") :].format(2))
    found = series(understood)

    assert {key: understood.params[key] for key in ("epochs", "batch")} == {"epochs": 2, "batch": 16}
    assert found["box_loss"] == [(1, 1.13), (2, 1.13)]
    assert found["map50-95"] == [(1, 0.446), (2, 0.446)]


def test_log_of_lightning_counts_epochs_from_0() -> None:
    """Bars, the seed, and the table of the test."""
    understood = read_text(
        "Seed set to 42\n"
        "Epoch 0:   0%|          | 0/100 [00:00<?, ?it/s]\r"
        "Epoch 0: 100%|██████████| 100/100 [00:02<00:00, 45.2it/s, train_loss=0.4]\n"
        "Epoch 1: 100%|██████████| 100/100 [00:02<00:00, 45.2it/s, train_loss=0.3]\n"
        "┏━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┓\n┃ Test metric ┃ DataLoader 0 ┃\n┡━━━━━━━━━━━━━╇━━━━━━━━━━━━━━┩\n"
        "│  test_acc   │     0.93     │\n└─────────────┴──────────────┘\n"
    )

    assert understood.params == {"seed": 42}
    assert series(understood) == {"train_loss": [(100, 0.4), (200, 0.3)]}
    assert understood.final == {"test_acc": 0.93}
    assert understood.left_out == []


def test_folds_of_scikit_learn_are_a_table() -> None:
    """Each has params of its own, which are not those of the run; its best score is a result."""
    understood = read_text(
        "[CV 1/2; 1/1] START C=0.1, kernel=rbf............\n"
        "[CV 1/2] END ................C=0.1, kernel=rbf;, score=0.897 total time=   0.1s\n"
        "[CV 2/2] END ...C=1, gamma=(1, 2);, score=(train=0.980, test=0.950) total time= 1.5min\n"
        "Best score: 0.902\n"
    )

    assert understood.params == {}
    assert understood.final == {"best_score": 0.902}
    assert understood.grids[0].columns == [
        *("fold", "C", "kernel", "score", "total_time_s", "gamma", "train_score", "test_score")
    ]
    assert understood.grids[0].rows == [
        [1, 0.1, "rbf", 0.897, 0.1, None, None, None],
        [2, 1, None, None, 90.0, [1, 2], 0.98, 0.95],
    ]


def test_log_of_the_hugging_face_trainer_keeps_times_and_words() -> None:
    """The level stands before the time, arguments have blanks in their names, a checkpoint is a directory."""
    understood = read_text(
        "[INFO|trainer.py:2131] 2024-05-01 12:00:00,500 >>   Instantaneous batch size per device = 32\n"
        "{'loss': 0.6, 'epoch': 0.87}\n"
        "Saving model checkpoint to /out/checkpoint-345\n"
    )

    assert understood.params == {"instantaneous_batch_size_per_device": 32}
    assert understood.first_us is not None
    assert understood.first_us % 1_000_000 == 500_000
    assert [(file.path, file.is_checkpoint) for file in understood.files] == [("/out/checkpoint-345", True)]


def test_log_of_a_shell_has_overrides_and_the_test_set() -> None:
    """``key=value`` words of a command are params; `Test set:` keeps its values apart from the training's."""
    understood = read_text(
        "+ python -m train --data.path /x --optim.lr=3e-4 --no-amp model=resnet +trainer.gpus=2\n"
        "Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.25\n"
        "Test set: Average loss: 0.0500, Accuracy: 9830/10000 (98%)\n"
    )

    assert understood.params == {
        "data.path": "/x",
        "optim.lr": 0.0003,
        "no_amp": True,
        "model": "resnet",
        "trainer.gpus": 2,
    }
    assert series(understood) == {"loss": [(640, 2.25)]}
    assert understood.final == {"test_average_loss": 0.05, "test_accuracy": 0.983}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_log_is_read_in_any_usual_encoding(encoding: str) -> None:
    """With or without a mark, and in colours, with the line ends of Windows."""
    text = "\x1b[1mstep 1\x1b[0m loss=0.5 précision=0.9\r\nstep 2 loss=0.4 précision=0.8\r\n"

    found = series(read_text(decode(text.encode(encoding))))

    assert found == {"loss": [(1, 0.5), (2, 0.4)], "précision": [(1, 0.9), (2, 0.8)]}


def test_a_broken_character_spoils_its_line_only() -> None:
    """What is UTF-8 elsewhere stays so."""
    assert decode("é\n".encode() + b"\xe9\xff\n" + "é".encode()) == "é\néÿ\né"
