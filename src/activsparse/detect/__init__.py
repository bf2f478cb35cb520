"""Object detection: data, losses, boxes and training of `activsparse.models.yolov5`."""
